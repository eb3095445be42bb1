"""Servers that hold chosen requests: out of order, and one of each kind."""

from __future__ import annotations

from tests.lab.nbd import ServerPlan
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import Q35, nbd_node, ready
from tests.lab.session import Session

_QUEUE_SIZE = 32
_HELD_OFFSET = 48 << 20
_WAIT = "while [ -e {gate} ]; do sleep 0.1; done; "
_WAIT_OR_HOLD = f"while [ -e {{gate}} ] || [ $4 = {_HELD_OFFSET} ]; do sleep 0.1; done; "
_PARALLEL = ("thread_model=echo parallel", "get_size=echo 64M")

_DISK = Device(
    id="disk0",
    kind="virtio-blk",
    pci_address="00:05.0",
    serial="HELDSERIAL",
    node="nbd0",
    queues=1,
    server="server0",
)


def _arguments(options: str, node_options: str = "") -> tuple[str, ...]:
    device = f"virtio-blk-pci,id=disk0,drive=nbd0,serial=HELDSERIAL,num-queues=1,addr=05.0{options}"
    return (*Q35, *nbd_node("nbd0", "server0", node_options), *("-device", device))


def _pass_and_hold(session: Session) -> None:
    server = session.servers["server0"]
    session.wait_held("server0", 1)
    passed_from = server.completed()
    session.wait_until(
        lambda: server.completed() > passed_from + 3 * _QUEUE_SIZE,
        "others pass the held request",
    )
    session.close_gate(_DISK, 4)
    session.notes["held_offset"] = _HELD_OFFSET
    session.notes["passed"] = server.completed() - passed_from
    session.ask()


def _hold_all(session: Session) -> None:
    session.close_gate(_DISK, 4)
    session.ask()


_HELD_SECTOR = _HELD_OFFSET // 4096

OUT_OF_ORDER = Scenario(
    name="out-of-order",
    summary="one read held while others pass it more often than the queue has entries",
    arguments=_arguments(f",queue-size={_QUEUE_SIZE}"),
    script=f"""
dd if=/dev/vda of=/dev/null bs=4k skip={_HELD_SECTOR} count=1 iflag=direct 2>/dev/null &
sleep 2
for reader in 1 2 3; do
  sh -c "while :; do dd if=/dev/vda of=/dev/null bs=4k skip=$((reader * 1000)) count=50 \\
iflag=direct 2>/dev/null; done" &
done
{ready()}""",
    devices=(_DISK,),
    servers=(
        ServerPlan(
            "server0",
            (
                "eval",
                *_PARALLEL,
                f"pread={_WAIT_OR_HOLD} head -c $3 /dev/zero",
                "pwrite=cat >/dev/null",
            ),
        ),
    ),
    incident=_pass_and_hold,
)

# Reader and writer never seek: Linux lets them wait for the discard, which holds the inode's lock.
HELD_KINDS = Scenario(
    name="held-kinds",
    summary="a read, a write, a flush and a discard held at once",
    arguments=_arguments("", ",discard=unmap"),
    script=f"""
forever() {{ while :; do "$@" 2>/dev/null; done; }}
forever dd if=/dev/vda of=/dev/null bs=8k iflag=direct &
forever dd if=/dev/zero of=/dev/vda bs=4k oflag=direct &
forever sync /dev/vda &
forever blkdiscard -o 16777216 -l 65536 /dev/vda &
{ready(5)}""",
    devices=(_DISK,),
    servers=(
        ServerPlan(
            "server0",
            (
                "eval",
                *_PARALLEL,
                f"pread={_WAIT} head -c $3 /dev/zero",
                f"pwrite={_WAIT} cat >/dev/null",
                f"flush={_WAIT}",
                f"trim={_WAIT}",
            ),
        ),
    ),
    incident=_hold_all,
)
