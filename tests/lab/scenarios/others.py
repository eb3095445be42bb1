"""Cores of other programs of the QEMU project: they have no virtio devices."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.lab import runner
from tests.lab.processes import Children

_COMMANDS = {
    "other-storage-daemon": (
        "qemu-storage-daemon",
        "--blockdev",
        "driver=null-co,node-name=null0,size=67108864,read-zeroes=on",
        "--nbd-server",
        "addr.type=unix,addr.path={socket}",
        "--export",
        "type=nbd,id=export0,node-name=null0",
    ),
    "other-qemu-nbd": (
        "qemu-nbd",
        "--persistent",
        "--socket={socket}",
        "--image-opts",
        "driver=null-co,size=67108864,read-zeroes=on",
    ),
}
NAMES = tuple(_COMMANDS)


def make(version: str, name: str) -> Path:
    """Makes the case of one program serving an NBD export."""
    with tempfile.TemporaryDirectory(prefix="vringcore-lab-") as scratch, Children() as children:
        socket = Path(scratch) / "export"
        program, *arguments = (word.replace("{socket}", str(socket)) for word in _COMMANDS[name])
        command = [str(runner.executable(version, program)), *arguments]
        process = children.start(command, Path(scratch) / "out")
        deadline = time.monotonic() + 20
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{program}: {(Path(scratch) / 'out').read_text()}")
            time.sleep(0.1)
        return runner.make_other_case(version, name, command, process.pid)
