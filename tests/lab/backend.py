"""vhost-user-blk back-ends: processes that take a disk's requests in QEMU's stead."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.processes import Children


@dataclass(frozen=True)
class BackendPlan:
    """A back-end to be started before QEMU.

    `command` begins with the name of a program that was built with QEMU; `{NAME.vhost}` in it
    stands for the socket it has to listen on, other places as in a scenario's arguments.
    """

    name: str
    command: tuple[str, ...]


class Backend:
    """One running back-end; `socket_path` is where it listens."""

    def __init__(
        self, command: Sequence[str], socket_path: Path, output: Path, children: Children
    ) -> None:
        self._process = children.start(command, output)
        deadline = time.monotonic() + 20
        while not socket_path.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {output.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Freezes it: it neither takes requests nor answers any, nor QEMU's messages."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def condemn(self) -> None:
        """Has it end as soon as it wakes: one that sleeps in the kernel cannot be killed sooner."""
        self._process.send_signal(signal.SIGKILL)

    def kill(self) -> None:
        """Ends it, with all requests that it has taken; its connection to QEMU is closed."""
        self._process.kill()
        self._process.wait()
