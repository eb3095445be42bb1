"""VMs that a verdict must tell apart: busy and well, one disk of two stuck, a broken device …"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.lab import qmp_facts
from tests.lab.machine import GuestError
from tests.lab.nbd import ServerPlan
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.aio import mount_fuse
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, Q35, nbd_node, ready, traffic
from tests.lab.session import Session

_SECOND_SERVER = ServerPlan("server1", ("memory", "256M"))


def _blk(number: int, *, iothread: bool, server: bool) -> Device:
    """A disk of four queues on an NBD server; `server`: what that holds is known to the case."""
    return Device(
        id=f"disk{number}",
        kind="virtio-blk",
        pci_address=f"00:{5 + number:02x}.0",
        serial=f"VERDICT{number}",
        iothread="io0" if iothread else None,
        node=f"nbd{number}",
        queues=4,
        server=f"server{number}" if server else None,
    )


def _options(device: Device, drive: str = "") -> tuple[str, str]:
    thread = f",iothread={device.iothread}" if device.iothread else ""
    address = str(device.pci_address).removeprefix("00:")
    names = f"id={device.id},serial={device.serial},addr={address}"
    places = f"drive={drive or device.node},num-queues={device.queues}{thread}"
    return "-device", f"virtio-blk-pci,{names},{places}"


def _look(session: Session) -> None:
    session.ask()


_BUSY = _blk(0, iothread=True, server=False)

BUSY = Scenario(
    name="busy",
    summary="a guest that reads and writes as fast as it can; nothing is wrong",
    arguments=(*Q35, *IOTHREAD, *nbd_node("nbd0", "server0"), *_options(_BUSY)),
    script=traffic("vda") + ready(5),
    devices=(_BUSY,),
    servers=(MEMORY_SERVER,),
    incident=_look,
    at_rest=False,
)

_STUCK = _blk(0, iothread=True, server=True)
_WELL = _blk(1, iothread=True, server=False)


def _stop_first(session: Session) -> None:
    session.stop_server(_STUCK)
    session.ask()


ONE_OF_TWO = Scenario(
    name="one-of-two",
    summary="two disks in one I/O thread: the server of the first has stopped, the second is busy",
    arguments=(
        *Q35,
        *IOTHREAD,
        *nbd_node("nbd0", "server0"),
        *nbd_node("nbd1", "server1"),
        *_options(_STUCK),
        *_options(_WELL),
    ),
    script=traffic("vda") + traffic("vdb") + ready(5),
    devices=(_STUCK, _WELL),
    servers=(MEMORY_SERVER, _SECOND_SERVER),
    incident=_stop_first,
    at_rest=False,
)

_BEYOND = 1000
"""Further than any of the disk's queues is long."""


def _break(session: Session) -> None:
    """Writes a wrong index into an available ring while the VM stands still."""
    monitor = session.machine.monitor
    monitor.execute("stop")
    (device,) = qmp_facts.virtio_devices(monitor)
    queue = device["queues"][0]
    said = monitor.human(f"gpa2hva {queue['vring-avail'] + 2:#x}")
    found = re.search(r"is (0x[0-9a-f]+)", said)
    if found is None:
        raise GuestError(f"gpa2hva said {said!r}")
    wrong = (queue["last-avail-idx"] + _BEYOND) & 0xFFFF
    with Path(f"/proc/{session.machine.pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(int(found[1], 16))
        memory.write(wrong.to_bytes(2, "little"))
    monitor.execute("cont")
    session.wait_until(
        lambda: monitor.execute("x-query-virtio-status", path=device["path"])["broken"],
        "QEMU finds the ring broken",
    )
    session.settle()
    session.ask()


_BROKEN = _blk(0, iothread=True, server=False)

BROKEN = Scenario(
    name="broken",
    summary="a device that stopped serving: the available index of its first queue was impossible",
    arguments=(*Q35, *IOTHREAD, *nbd_node("nbd0", "server0"), *_options(_BROKEN)),
    script=traffic("vda") + ready(5),
    devices=(_BROKEN,),
    servers=(MEMORY_SERVER,),
    incident=_break,
    versions=("7.2", "10.0", "10.2"),
)

_UNSEEN = _blk(0, iothread=False, server=False)


def _block_main_loop(session: Session) -> None:
    """Lets the main loop wait, with the BQL, for a disk image whose server has stopped.

    Of a file that it shall open for direct I/O QEMU tries how reads must be aligned.
    """
    session.ask()
    server = session.servers["server1"]
    server.stop()
    path = server.socket_path.parent / "fuse" / "nbd"
    node: dict[str, Any] = {"driver": "file", "node-name": "late0", "filename": str(path)}
    session.expect_silence("blockdev-add", **node, cache={"direct": True})
    session.settle()


BQL_HELD = Scenario(
    name="bql-held",
    summary="the main loop waits in pread() with the BQL held; a disk's requests are not seen",
    arguments=(*Q35, *nbd_node("nbd0", "server0"), *_options(_UNSEEN)),
    script=traffic("vda") + ready(5),
    devices=(_UNSEEN,),
    servers=(MEMORY_SERVER, _SECOND_SERVER),
    prepare=lambda directory, servers, children: mount_fuse(directory, servers[1:], children),
    incident=_block_main_loop,
    taken_by="proc",
    monitor_answers_after=False,
    at_rest=False,
)

_SCSI = Device(id="scsi0", kind="virtio-scsi", pci_address="00:06.0", queues=4, iothread="io0")


def _stop_scsi(session: Session) -> None:
    session.servers["server0"].stop()
    session.wait_until(
        lambda: sum(session.in_use("scsi0").values()) > 1,
        "requests of the SCSI disk are in flight",
    )
    session.settle()
    session.ask()


def _stop_scsi_and_migrate(session: Session) -> None:
    _stop_scsi(session)
    session.migrate_until_hung()


_RESET = """
#include <fcntl.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>

int main(int count, char **words)
{
    int what = SG_SCSI_RESET_DEVICE;
    return count < 2 || ioctl(open(words[1], O_RDONLY | O_NONBLOCK), SG_SCSI_RESET, &what);
}
"""

_RESET_WHEN_STUCK = """
(while :; do
  set -- $(cat /sys/block/sda/stat)
  [ "$1 $5" = "$last" ] && break
  last="$1 $5"
  sleep 12
done
reset_device /dev/sda) &
"""
"""What drivers of other systems do by themselves: no read and no write has ended for a while."""


def _stop_scsi_until_it_is_reset(session: Session) -> None:
    _stop_scsi(session)
    session.wait_until(lambda: not session.answers(), "the reset of the disk hangs")
    session.settle()


def _scsi(
    name: str,
    summary: str,
    incident: Callable[[Session], None],
    *,
    iothread: bool = True,
    work: str = "",
    programs: dict[str, str] | None = None,
    monitor_answers_after: bool = True,
) -> Scenario:
    thread = f",iothread={_SCSI.iothread}" if iothread else ""
    return Scenario(
        name=name,
        summary=summary,
        arguments=(
            *Q35,
            *(IOTHREAD if iothread else ()),
            *nbd_node("nbd0", "server0"),
            *("-device", f"virtio-scsi-pci,id=scsi0,num_queues=2,addr=06.0{thread}"),
            *("-device", "scsi-hd,id=sd0,bus=scsi0.0,drive=nbd0,serial=VERDICTSCSI"),
        ),
        script=traffic("sda") + ready(5) + work,
        programs=programs or {},
        devices=(replace(_SCSI, iothread=_SCSI.iothread if iothread else None),),
        servers=(MEMORY_SERVER,),
        incident=incident,
        monitor_answers_after=monitor_answers_after,
    )


STUCK_SCSI = _scsi(
    "stuck-scsi", "a disk behind virtio-scsi; its NBD server has stopped", _stop_scsi
)
SCSI_RESET = _scsi(
    "scsi-reset",
    "as stuck-scsi; then the driver resets the disk, which hangs in its drain",
    _stop_scsi_until_it_is_reset,
    # 7.2 ends itself where an I/O thread is to drain: blk_drain() asserts that it is the main loop.
    iothread=False,
    work=_RESET_WHEN_STUCK,
    programs={"reset_device": _RESET},
    monitor_answers_after=False,
)
SCSI_MIGRATION = _scsi(
    "scsi-migration",
    "as stuck-scsi; then a migration that hangs in its drain",
    _stop_scsi_and_migrate,
    monitor_answers_after=False,
)
