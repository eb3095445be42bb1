"""A vhost-user-blk back-end: QEMU's own storage daemon over an NBD server of the scenario."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.nbd import NbdServer
from tests.lab.processes import Children

PROGRAM = "qemu-storage-daemon"


@dataclass(frozen=True)
class BackendPlan:
    """A back-end to be started before QEMU; `server` names the NBD server that it passes on to."""

    name: str
    server: str
    queues: int


class Backend:
    """One running storage daemon."""

    def __init__(
        self,
        plan: BackendPlan,
        program: Path,
        servers: list[NbdServer],
        directory: Path,
        children: Children,
    ) -> None:
        self.name = plan.name
        self.socket_path = directory / f"{plan.name}.vhost"
        server = next(known for known in servers if known.name == plan.server)
        node = f"driver=nbd,node-name=nbd0,server.type=unix,server.path={server.socket_path}"
        address = f"addr.type=unix,addr.path={self.socket_path}"
        export = f"vhost-user-blk,id=export0,node-name=nbd0,{address},writable=on"
        command = [str(program), "--blockdev", node]
        command += ["--export", f"{export},num-queues={plan.queues}"]
        output = directory / f"{plan.name}.out"
        self._process = children.start(command, output)
        self._wait_until_listening(output)

    def stop(self) -> None:
        """Freezes it: it neither takes requests nor answers any, nor QEMU's messages."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """Ends it, with all requests that it has taken; its connection to QEMU is closed."""
        self._process.kill()
        self._process.wait()

    def _wait_until_listening(self, output: Path) -> None:
        deadline = time.monotonic() + 20
        while not self.socket_path.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{PROGRAM} did not start: {output.read_text()}")
            time.sleep(0.05)
