"""Makes the small core that the package brings along, which ``vringcore demo`` shows.

``python -m tests.lab.sample [VERSION]`` hangs a migration as `stuck-migration` does, under paths
that say nothing of the machine it ran on: in a mount namespace of its own, QEMU lies in /usr/bin,
its source in /usr/src, and all else in /srv/vm. The core is taken with gcore and made small as
``vringcore slim`` does it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import build, capture, guest, packages, runner
from tests.lab.paths import lab_root
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, Q35, nbd_node, ready, traffic
from tests.lab.session import Session
from vringcore.cli.demo import SAMPLE
from vringcore.layout.store import LayoutStore
from vringcore.options import Options
from vringcore.slim.slim import slim_core

VERSION = "10.0"
MOUNT = Path("/srv")
PLACE = MOUNT / "vm"
PROGRAM = Path("/usr/bin") / runner.SYSTEM_EMULATOR

_DISK = Device(
    id="disk0",
    kind="virtio-blk",
    pci_address="00:05.0",
    serial="vol-7d31c0",
    iothread="io0",
    node="nbd0",
    queues=4,
    server="server0",
)
_BACK_END = "drive=nbd0,iothread=io0,num-queues=4"


def _hang(session: Session) -> None:
    session.stop_server(_DISK)
    session.migrate_until_hung()


SCENARIO = Scenario(
    name="sample",
    summary="virtio-blk with four queues; its NBD server has stopped; a migration hangs",
    arguments=(
        *Q35,
        *("-name", "web-1,debug-threads=on", "-uuid", "5d1f8a52-3b0e-4a3c-9d65-0c1f4b7e2a90"),
        *IOTHREAD,
        *nbd_node("nbd0", "server0"),
        *("-device", f"virtio-blk-pci,id={_DISK.id},serial={_DISK.serial},addr=05.0,{_BACK_END}"),
    ),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_hang,
)


def make(version: str) -> None:
    """Makes the sample, in the mount namespace that `main` has opened."""
    _mount("tmpfs", MOUNT)
    _show_in(PROGRAM.parent, runner.executable(version, runner.SYSTEM_EMULATOR))
    PLACE.mkdir()
    kernel = Path(shutil.copy(guest.kernel(), PLACE))
    core = MOUNT / "core"
    with runner.running(SCENARIO, PROGRAM, PLACE, kernel=kernel) as session:
        capture.gcore(session.machine.pid, core)
    options = Options(executable=str(PROGRAM))
    made = slim_core(str(core), SAMPLE, options=options, store=LayoutStore())
    os.chmod(SAMPLE, 0o644)
    print(f"{SAMPLE}: {os.path.getsize(SAMPLE)} bytes, {made.size} unpacked")


def _show_in(directory: Path, file: Path) -> None:
    """Shows a program in a directory as if it had been built elsewhere and installed there."""
    upper, work = MOUNT / "upper", MOUNT / "work"
    upper.mkdir()
    work.mkdir()
    copy = shutil.copy(file, upper)
    rename = ["debugedit", "-b", str(lab_root()), "-d", "/usr/src"]
    subprocess.run([*rename, str(copy)], check=True)
    _mount("overlay", directory, f"lowerdir={directory},upperdir={upper},workdir={work}")


def _mount(kind: str, place: Path, options: str = "mode=755") -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, "none", str(place)], check=True)


def main(words: list[str]) -> int:
    """Builds what is missing, then makes the sample; returns the exit code."""
    version = words[0] if words else VERSION
    build.qemu(version)
    guest.make()
    packages.install("debugedit")
    code = f"from tests.lab.sample import make; make({version!r})"
    return subprocess.run(["unshare", "--mount", sys.executable, "-c", code]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
