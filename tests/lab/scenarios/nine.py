"""Nine virtio devices of eight kinds in one VM, each with its queues really used."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from tests.lab.machine import GuestError
from tests.lab.nbd import ServerPlan
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, nbd_node, ready
from tests.lab.session import Session

_DEVICES = (
    Device("blk0", "virtio-blk", "00:03.0", "NINE0", "io0", "nbd0", 2, "server0"),
    Device("blk1", "virtio-blk", "00:04.0", "NINE1", None, "nbd1", 1, "server1"),
    Device("scsi0", "virtio-scsi", "00:05.0", queues=4),
    Device("net0", "virtio-net", "00:06.0"),
    Device("console0", "virtio-serial", "00:07.0"),
    Device("rng0", "virtio-rng", "00:08.0", queues=1),
    Device("balloon0", "virtio-balloon", "00:09.0"),
    Device("keyboard0", "virtio-input", "00:0a.0", queues=2),
    Device("mem0", "virtio-mem", "00:0b.0", queues=1),
)
_MEMORY_STEP = 32 << 20
_RING_PACKED = 34
_USED = 1 << 15 | 1 << 7

_ARGUMENTS = (
    *("-machine", "q35", "-m", "256M,maxmem=1G,slots=2"),
    *IOTHREAD,
    *nbd_node("nbd0", "server0"),
    *nbd_node("nbd1", "server1"),
    *nbd_node("nbd2", "server2"),
    *("-device", "virtio-blk-pci,id=blk0,drive=nbd0,iothread=io0,num-queues=2,serial=NINE0,addr=3"),
    *("-device", "virtio-blk-pci,id=blk1,drive=nbd1,num-queues=1,serial=NINE1,addr=4"),
    *("-device", "virtio-scsi-pci,id=scsi0,num_queues=2,addr=5"),
    *("-device", "scsi-hd,id=sd0,bus=scsi0.0,drive=nbd2,serial=NINE2"),
    *("-netdev", "user,id=user0", "-device", "virtio-net-pci,id=net0,netdev=user0,romfile=,addr=6"),
    *("-device", "virtio-serial-pci,id=console0,addr=7"),
    *("-chardev", "file,id=hvc0,path={directory}/hvc0.out"),
    *("-device", "virtconsole,id=port0,bus=console0.0,chardev=hvc0"),
    *("-object", "rng-builtin,id=random0", "-device", "virtio-rng-pci,id=rng0,rng=random0,addr=8"),
    *("-device", "virtio-balloon-pci,id=balloon0,addr=9"),
    *("-device", "virtio-keyboard-pci,id=keyboard0,addr=0xa"),
    *("-object", "memory-backend-ram,id=plug0,size=128M"),
    *("-device", "virtio-mem-pci,id=mem0,memdev=plug0,addr=0xb"),
)

_SCRIPT = f"""
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
ping -c 3 10.0.2.2 >/dev/null 2>&1
for line in 1 2 3; do echo "line $line" > /dev/hvc0; done
dd if=/dev/hwrng of=/dev/null bs=64 count=4 2>/dev/null
for disk in vda vdb sda; do
  dd if=/dev/$disk of=/dev/null bs=16k count=100 iflag=direct
  dd if=/dev/zero of=/dev/$disk bs=4k seek=3000 count=50 oflag=direct
done 2>/dev/null
{ready()}"""


def _use_all(session: Session) -> None:
    monitor = session.machine.monitor
    monitor.execute("send-key", keys=[{"type": "qcode", "data": "a"}])
    monitor.execute("balloon", value=224 << 20)
    monitor.execute(
        "qom-set", path="/machine/peripheral/mem0", property="requested-size", value=_MEMORY_STEP
    )
    session.wait_until(lambda: _memory_plugged(session), "the guest plugs virtio-mem's memory")
    session.wait_until(lambda: _ballooned(session), "the guest inflates the balloon")
    time.sleep(2)
    session.ask()


def _use_all_split(session: Session) -> None:
    _use_all(session)
    unused = [device["path"] for device in session.virtio_devices() if not _queues_used(device)]
    if unused:
        raise GuestError(f"devices without a used queue: {unused}")


def _memory_plugged(session: Session) -> bool:
    size = session.machine.monitor.execute(
        "qom-get", path="/machine/peripheral/mem0", property="size"
    )
    return bool(size == _MEMORY_STEP)


def _ballooned(session: Session) -> bool:
    return bool(session.machine.monitor.execute("query-balloon")["actual"] <= 240 << 20)


def _queues_used(device: dict[str, list[dict[str, int]]]) -> bool:
    return any(queue["used-idx"] for queue in device["queues"])


NINE_DEVICES = Scenario(
    name="nine-devices",
    summary="nine virtio devices of eight kinds, all of them used",
    arguments=_ARGUMENTS,
    script=_SCRIPT,
    devices=_DEVICES,
    servers=(
        MEMORY_SERVER,
        ServerPlan("server1", ("memory", "64M")),
        ServerPlan("server2", ("memory", "64M")),
    ),
    incident=_use_all_split,
)


def _check_packed(truth: Any, servers: Any) -> None:
    unpacked = [
        device["id"]
        for device in truth["devices"]
        if not device["fields"]["guest_features"] >> _RING_PACKED & 1
    ]
    if unpacked:
        raise GuestError(f"devices without packed rings: {unpacked}")
    unused = [
        device["id"]
        for device in truth["devices"]
        if not any(_used(queue) for queue in device["queues"])
    ]
    if unused:
        raise GuestError(f"devices without a used queue: {unused}")


def _used(queue: Any) -> bool:
    """Whether the device has used a buffer: in its first round it sets both wrap bits."""
    fields, table = queue["fields"], bytes.fromhex((queue["rings"] or {}).get("desc") or "")
    flags = [int.from_bytes(table[at + 14 : at + 16], "little") for at in range(0, len(table), 16)]
    later = fields["used_idx"] or not fields["used_wrap_counter"]
    return bool(later) or any(word & _USED == _USED for word in flags)


def _packed(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The same devices, each offering packed rings."""
    return tuple(f"{word},packed=on" if word.startswith("virtio-") else word for word in arguments)


NINE_PACKED = replace(
    NINE_DEVICES,
    name="nine-packed",
    summary="as nine-devices, every queue a packed one",
    arguments=_packed(_ARGUMENTS),
    incident=_use_all,
    check=_check_packed,
)
