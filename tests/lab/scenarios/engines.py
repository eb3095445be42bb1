"""Requests in QEMU's own machinery: worker threads, a drive's throttle, qcow2's coroutines."""

from __future__ import annotations

import struct
import time
from pathlib import Path

from tests.lab.nbd import NbdServer, ServerPlan
from tests.lab.processes import Children
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.aio import mount_fuse
from tests.lab.scenarios.parts import IOTHREAD, Q35, ready, traffic
from tests.lab.session import Session

_SIZE = 256 << 20
_CLUSTER = 1 << 16

# The last cluster first, so that no two neighbours are neighbours in the image; then large reads.
_SCATTERED = """
cluster=128
while [ $cluster -gt 0 ]; do
  cluster=$((cluster - 1))
  dd if=/dev/zero of=/dev/vda bs=64k seek=$cluster count=1 oflag=direct 2>/dev/null
done
for cpu in 0 1 2 3; do
  read="dd if=/dev/vda of=/dev/null bs=512k skip=$((cpu * 4)) count=4 iflag=direct"
  taskset -c $cpu sh -c "while :; do $read 2>/dev/null; done" &
done
"""


def _disk(drive: str, serial: str) -> tuple[str, str]:
    places = f"iothread=io0,num-queues=4,serial={serial},addr=05.0"
    return "-device", f"virtio-blk-pci,id=disk0,drive={drive},{places}"


def _device(serial: str, node: str | None) -> tuple[Device]:
    return (Device("disk0", "virtio-blk", "00:05.0", serial, "io0", node, 4),)


def _raw_image(directory: Path, servers: list[NbdServer], children: Children) -> None:
    with (directory / "disk.raw").open("wb") as image:
        image.truncate(_SIZE)


def _qcow2_image(directory: Path, servers: list[NbdServer], children: Children) -> None:
    """Writes an empty image: header, refcount table and block, L1 table, a cluster each."""
    header = struct.pack(
        ">4sIQIIQIIQQIIQ3Q2I",
        *(b"QFI\xfb", 3, 0, 0, 16, _SIZE, 0),
        *(1, 3 * _CLUSTER, _CLUSTER, 1, 0, 0),
        *(0, 0, 0, 4, 104),
    )
    image = bytearray(4 * _CLUSTER)
    image[: len(header)] = header
    struct.pack_into(">Q", image, _CLUSTER, 2 * _CLUSTER)
    struct.pack_into(">4H", image, 2 * _CLUSTER, 1, 1, 1, 1)
    (directory / "disk.qcow2").write_bytes(image)


def _look(session: Session) -> None:
    time.sleep(4)
    session.ask()


def _close_throttle(session: Session) -> None:
    session.machine.monitor.execute(
        "qom-set", path="/objects/group0", property="limits", value={"bps-total": 1}
    )
    _look(session)


SLOW_THREADS = Scenario(
    name="slow-threads",
    summary="aio=threads on a host file whose every read and write takes three seconds",
    arguments=(
        *Q35,
        *IOTHREAD,
        "-blockdev",
        "driver=file,node-name=file0,filename={directory}/fuse/nbd,cache.direct=on,aio=threads",
        *("-blockdev", "driver=raw,node-name=raw0,file=file0,cache.direct=on"),
        *_disk("raw0", "SLOWTHREADS"),
    ),
    script=traffic("vda") + ready(25),
    devices=_device("SLOWTHREADS", "raw0"),
    servers=(
        ServerPlan("server0", ("memory", "256M", "rdelay=3", "wdelay=3"), filters=("delay",)),
    ),
    prepare=mount_fuse,
    incident=_look,
)

DRIVE_THROTTLE = Scenario(
    name="drive-throttle",
    summary="requests held back by the limit of a -drive, in the back-end itself",
    arguments=(
        *Q35,
        *IOTHREAD,
        "-drive",
        "if=none,id=drive0,format=raw,file={directory}/disk.raw,throttling.bps-total=200000",
        *_disk("drive0", "DRIVETHROTTLE"),
    ),
    script=traffic("vda") + ready(5),
    devices=_device("DRIVETHROTTLE", None),
    prepare=_raw_image,
    incident=_look,
)

QCOW2_TASKS = Scenario(
    name="qcow2-tasks",
    summary="reads of scattered clusters, each in several coroutines of qcow2, throttled below",
    arguments=(
        *Q35,
        *IOTHREAD,
        *("-object", "throttle-group,id=group0"),
        *("-blockdev", "driver=file,node-name=file0,filename={directory}/disk.qcow2"),
        *("-blockdev", "driver=throttle,node-name=slow0,throttle-group=group0,file=file0"),
        *("-blockdev", "driver=qcow2,node-name=qcow0,file=slow0"),
        *_disk("qcow0", "QCOWSERIAL"),
    ),
    script=_SCATTERED + ready(15),
    devices=_device("QCOWSERIAL", "qcow0"),
    prepare=_qcow2_image,
    incident=_close_throttle,
)
