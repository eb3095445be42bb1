"""A disk whose NBD server has stopped, and then a migration that can never end."""

from __future__ import annotations

from tests.lab.guest import READY
from tests.lab.nbd import ServerPlan
from tests.lab.scenario import Device, Scenario
from tests.lab.session import Session

SECRET = "CANARYSECRET0001"
ENVIRONMENT_CANARY = "CANARYENVIRONMENT0002"

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

# Per vCPU one reader and one writer, so that each of the four queues is in use.
TRAFFIC = f"""
for cpu in 0 1 2 3; do
  taskset -c $cpu sh -c "while :; do dd if=/dev/vda of=/dev/null bs=16k skip=$((cpu * 1000)) \
count=200 iflag=direct 2>/dev/null; done" &
  taskset -c $cpu sh -c "while :; do dd if=/dev/zero of=/dev/vda bs=4k seek=$((cpu * 4000 + 20000)) \
count=200 oflag=direct 2>/dev/null; done" &
done
sleep 5
echo "{READY}"
"""

_ARGUMENTS = (
    *("-machine", "q35", "-m", "256"),
    *("-name", "lab-vm,debug-threads=on", "-uuid", "6c61622d-7672-696e-6763-6f7265303031"),
    *("-object", f"secret,id=sec0,data={SECRET}"),
    *("-object", "iothread,id=io0"),
    *("-blockdev", "driver=nbd,node-name=nbd0,server.type=unix,server.path={server0.nbd}"),
    *("-device", "virtio-blk-pci,id=disk0,drive=nbd0,iothread=io0,num-queues=4,"
      "serial=LABSERIAL0,addr=05.0"),
)  # fmt: skip


def _stop(session: Session) -> None:
    session.stop_server(_DISK)
    session.ask()


def _stop_and_migrate(session: Session) -> None:
    _stop(session)
    session.migrate_until_hung()


STUCK = Scenario(
    name="stuck",
    summary="virtio-blk with four queues and an iothread; its NBD server has stopped",
    arguments=_ARGUMENTS,
    script=TRAFFIC,
    devices=(_DISK,),
    servers=(ServerPlan("server0", ("memory", "256M")),),
    environment={"VRINGCORE_LAB_CANARY": ENVIRONMENT_CANARY},
    incident=_stop,
    kernel_core=True,
)

STUCK_MIGRATION = Scenario(
    name="stuck-migration",
    summary="as stuck; then a migration that hangs in the drain of that disk",
    arguments=_ARGUMENTS,
    script=TRAFFIC,
    devices=(_DISK,),
    servers=(ServerPlan("server0", ("memory", "256M")),),
    environment={"VRINGCORE_LAB_CANARY": ENVIRONMENT_CANARY},
    incident=_stop_and_migrate,
    kernel_core=True,
    monitor_answers_after=False,
)
