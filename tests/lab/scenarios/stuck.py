"""A disk whose NBD server has stopped, and then a migration that can never end."""

from __future__ import annotations

from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import (
    CANARY_PORT,
    IOTHREAD,
    MEMORY_SERVER,
    nbd_node,
    ready,
    spread_canary,
    traffic,
)
from tests.lab.session import Session

SECRET = "CANARYSECRET0001"
ENVIRONMENT_CANARY = "CANARYENVIRONMENT0002"
GUEST_CANARY = "CANARYGUESTRAM03"

CANARIES = {"secret": SECRET, "environment": ENVIRONMENT_CANARY, "guest": GUEST_CANARY}
ENVIRONMENT = {"VRINGCORE_LAB_CANARY": ENVIRONMENT_CANARY}
_SCRIPT = spread_canary(GUEST_CANARY) + traffic("vda", "/canary") + ready(5)

_DISK = Device(
    id="disk0",
    kind="virtio-blk",
    pci_address="00:05.0",
    serial="LABSERIAL0",
    iothread="io0",
    node="nbd0",
    queues=4,
    server="server0",
)
_DEVICE = "virtio-blk-pci,id=disk0,drive=nbd0,iothread=io0,num-queues=4,serial=LABSERIAL0,addr=05.0"


def _arguments(machine: str) -> tuple[str, ...]:
    return (
        *("-machine", machine, "-m", "256"),
        *("-name", "lab-vm,debug-threads=on", "-uuid", "6c61622d-7672-696e-6763-6f7265303031"),
        *("-object", f"secret,id=sec0,data={SECRET}"),
        *IOTHREAD,
        *nbd_node("nbd0", "server0"),
        *("-device", _DEVICE),
    )


def _stop(session: Session) -> None:
    session.stop_server(_DISK)
    session.ask()


def _stop_and_migrate(session: Session) -> None:
    _stop(session)
    session.migrate_until_hung()


def _stop_and_reset(session: Session) -> None:
    _stop(session)
    session.expect_silence("system_reset")
    session.settle()


# The device's status is 20 bytes into the common configuration, which begins BAR 4 (virtio-pci.c).
_RESET_WHEN_STUCK = """
(while :; do
  set -- $(cat /sys/block/vda/stat)
  [ "$1 $5" = "$last" ] && break
  last="$1 $5"
  sleep 12
done
set -- $(sed -n 5p /sys/bus/pci/devices/0000:00:05.0/resource)
devmem $(($1 + 20)) 8 0) &
"""
"""What a kernel does that takes over from one that crashed: it begins with a reset."""


def _stop_until_it_is_reset(session: Session) -> None:
    _stop(session)
    session.wait_until(lambda: not session.answers(), "the reset of the disk hangs")
    session.settle()


def _stop_and_quit(session: Session) -> None:
    _stop(session)
    session.expect_silence("quit")
    session.settle()


STUCK = Scenario(
    name="stuck",
    summary="virtio-blk with four queues and an iothread; its NBD server has stopped",
    arguments=(*_arguments("q35"), *CANARY_PORT),
    script=_SCRIPT,
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    environment=ENVIRONMENT,
    incident=_stop,
    kernel_core=True,
    canaries=CANARIES,
)

STUCK_MIGRATION = Scenario(
    name="stuck-migration",
    summary="as stuck; then a migration that hangs in the drain of that disk",
    arguments=(*_arguments("q35"), *CANARY_PORT),
    script=_SCRIPT,
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    environment=ENVIRONMENT,
    incident=_stop_and_migrate,
    kernel_core=True,
    canaries=CANARIES,
    monitor_answers_after=False,
)

STUCK_RESET = Scenario(
    name="stuck-reset",
    summary="as stuck; then somebody resets the VM, which hangs in the drain of that disk",
    arguments=_arguments("q35"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop_and_reset,
    monitor_answers_after=False,
)

STUCK_QUIT = Scenario(
    name="stuck-quit",
    summary="as stuck; then somebody ends QEMU (`quit`), which hangs in the drain of that disk",
    arguments=_arguments("q35"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop_and_quit,
    monitor_answers_after=False,
)

GUEST_RESET = Scenario(
    name="guest-reset",
    summary="as stuck; then the guest resets the disk, and a vCPU hangs in its drain",
    arguments=_arguments("q35"),
    script=traffic("vda") + ready(5) + _RESET_WHEN_STUCK,
    kernel_arguments="iomem=relaxed",
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop_until_it_is_reset,
    monitor_answers_after=False,
)

NO_GUEST_RAM = Scenario(
    name="no-guest-ram",
    summary="as stuck, with -machine dump-guest-core=off: guest RAM is not in the core",
    arguments=_arguments("q35,dump-guest-core=off"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop,
)
