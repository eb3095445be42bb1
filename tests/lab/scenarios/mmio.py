"""virtio-mmio devices of a microvm, modern and legacy; their disk's NBD server has stopped."""

from __future__ import annotations

import time

from tests.lab.machine import GuestError
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import MEMORY_SERVER, nbd_node, ready, traffic
from tests.lab.session import Session

_DISK = Device("disk0", "virtio-blk", None, "MMIOSERIAL", None, "nbd0", 4, "server0")
_DEVICES = (
    _DISK,
    Device("net0", "virtio-net", None),
    Device("rng0", "virtio-rng", None, queues=1),
    Device("console0", "virtio-serial", None),
)

_KERNEL_ARGUMENTS = "tsc_early_khz=2000000 cryptomgr.notests"
"""A microvm has no clock that the guest could measure the processor's by."""

_SCRIPT = f"""
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
ping -c 3 10.0.2.2 >/dev/null 2>&1
for line in 1 2 3; do echo "line $line" > /dev/hvc0; done
dd if=/dev/hwrng of=/dev/null bs=64 count=4 2>/dev/null
{traffic("vda")}{ready(5)}"""


def _arguments(force_legacy: str) -> tuple[str, ...]:
    return (
        *("-machine", "microvm,memory-backend=ram0", "-m", "256"),
        *("-object", "memory-backend-ram,id=ram0,size=256M"),
        *("-global", f"virtio-mmio.force-legacy={force_legacy}"),
        *nbd_node("nbd0", "server0"),
        *("-device", "virtio-blk-device,id=disk0,drive=nbd0,num-queues=4,serial=MMIOSERIAL"),
        *("-netdev", "user,id=user0", "-device", "virtio-net-device,id=net0,netdev=user0"),
        *("-object", "rng-builtin,id=random0"),
        *("-device", "virtio-rng-device,id=rng0,rng=random0"),
        *("-device", "virtio-serial-device,id=console0"),
        *("-chardev", "file,id=hvc0,path={directory}/hvc0.out"),
        *("-device", "virtconsole,id=port0,bus=console0.0,chardev=hvc0"),
    )


def _stop(session: Session) -> None:
    session.stop_server(_DISK)
    time.sleep(1)
    session.ask()
    unused = [
        device["path"]
        for device in session.virtio_devices()
        if not any(queue["used-idx"] for queue in device["queues"])
    ]
    if unused:
        raise GuestError(f"devices without a used queue: {unused}")


def _scenario(name: str, summary: str, force_legacy: str) -> Scenario:
    return Scenario(
        name=name,
        summary=summary,
        arguments=_arguments(force_legacy),
        script=_SCRIPT,
        devices=_DEVICES,
        servers=(MEMORY_SERVER,),
        incident=_stop,
        kernel_arguments=_KERNEL_ARGUMENTS,
    )


MICROVM = _scenario("microvm", "four virtio-mmio devices of a microvm, a disk stuck", "false")
MICROVM_LEGACY = _scenario("microvm-legacy", "as microvm, with legacy virtio-mmio", "true")
