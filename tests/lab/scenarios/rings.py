"""Every form of a ring that a guest's driver sets up: packed, plain, in order, legacy.

Each is a disk with four queues, an iothread and an NBD server that has stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.lab import guest
from tests.lab.machine import GuestError
from tests.lab.nbd import ServerPlan
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, Q35, nbd_node, ready, traffic
from tests.lab.session import Session

_QUEUE_SIZE = 64
"""Small, so that positions pass the end of the ring many times."""

_LOOPS = 8
"""Readers and writers of the guest's script: each has one request in flight."""


_Check = Callable[[Any, Any], None]

# Virtio 1.2, 6: reserved feature bits.
_INDIRECT, _EVENT_IDX, _VERSION_1, _PACKED, _IN_ORDER = 28, 29, 32, 34, 35


def _disk(serial: str) -> Device:
    return Device("disk0", "virtio-blk", "00:05.0", serial, "io0", "nbd0", 4, "server0")


def _arguments(serial: str, options: str) -> tuple[str, ...]:
    places = f"iothread=io0,num-queues=4,serial={serial},addr=05.0"
    device = f"virtio-blk-pci,id=disk0,drive=nbd0,{places},{options}"
    return (*Q35, *IOTHREAD, *nbd_node("nbd0", "server0"), "-device", device)


def _stop(session: Session) -> None:
    session.stop_server(session.scenario.devices[0])
    session.ask()


def _stop_chains(session: Session) -> None:
    session.stop_server(session.scenario.devices[0], requests=_LOOPS)
    session.ask()


def _negotiated(*, on: tuple[int, ...] = (), off: tuple[int, ...] = ()) -> _Check:
    """Driver and device have agreed on some features, and not on others."""

    def check(truth: Any, servers: Any) -> None:
        features = truth["devices"][0]["fields"]["guest_features"]
        if not all(features >> bit & 1 for bit in on) or any(features >> bit & 1 for bit in off):
            raise GuestError(f"the guest's driver took the features {features:#x}")
        if features >> _PACKED & 1:
            _check_wrapped(truth, servers)

    return check


def _check_wrapped(truth: Any, servers: Any) -> None:
    """Both sides of some ring stand in an odd round, and all that the server holds is found."""
    fields = [queue["fields"] for queue in truth["devices"][0]["queues"]]
    if not any(
        not queue["last_avail_wrap_counter"] and not queue["used_wrap_counter"] for queue in fields
    ):
        raise GuestError("every ring stands in an even round")
    held = sum(len(server["held"]) for server in servers)
    if held != len(truth["requests"]):
        raise GuestError(f"the server holds {held} requests, gdb finds {len(truth['requests'])}")


STUCK_PACKED = Scenario(
    name="stuck-packed",
    summary="packed rings, indirect descriptors; the NBD server has stopped",
    arguments=_arguments("PACKED", f"packed=on,queue-size={_QUEUE_SIZE}"),
    script=traffic("vda") + ready(5),
    devices=(_disk("PACKED"),),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    check=_negotiated(on=(_PACKED, _INDIRECT, _EVENT_IDX)),
)

STUCK_PACKED_DIRECT = Scenario(
    name="stuck-packed-direct",
    summary="packed rings, chains of several descriptors, no event index",
    arguments=_arguments(
        "PACKEDDIRECT", f"packed=on,indirect_desc=off,event_idx=off,queue-size={_QUEUE_SIZE}"
    ),
    script=traffic("vda") + ready(5),
    devices=(_disk("PACKEDDIRECT"),),
    servers=(MEMORY_SERVER,),
    incident=_stop_chains,
    check=_negotiated(on=(_PACKED,), off=(_INDIRECT, _EVENT_IDX)),
)

STUCK_PLAIN = Scenario(
    name="stuck-plain",
    summary="split rings without indirect descriptors and without the event index",
    arguments=_arguments("PLAIN", f"indirect_desc=off,event_idx=off,queue-size={_QUEUE_SIZE}"),
    script=traffic("vda") + ready(5),
    devices=(_disk("PLAIN"),),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    check=_negotiated(off=(_PACKED, _INDIRECT, _EVENT_IDX)),
)

STUCK_LEGACY = Scenario(
    name="stuck-legacy",
    summary="a legacy PCI device: rings at a page number, in the guest's byte order",
    arguments=_arguments("LEGACY", "disable-legacy=off,disable-modern=on,queue-size=256"),
    script=traffic("vda") + ready(5),
    devices=(_disk("LEGACY"),),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    check=_negotiated(on=(_INDIRECT,), off=(_VERSION_1,)),
)

STUCK_IN_ORDER = Scenario(
    name="stuck-in-order",
    summary="split rings whose buffers are used in the order in which they were made available",
    arguments=_arguments("INORDER", f"in_order=on,queue-size={_QUEUE_SIZE}"),
    script=traffic("vda") + ready(5),
    devices=(_disk("INORDER"),),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    check=_negotiated(on=(_IN_ORDER,), off=(_PACKED,)),
    guest=guest.NEWER,
    versions=("10.0", "10.2"),
)

STUCK_IN_ORDER_PACKED = Scenario(
    name="stuck-in-order-packed",
    summary="packed rings whose buffers are used in the order in which they were made available",
    arguments=_arguments("INORDERPACKED", f"in_order=on,packed=on,queue-size={_QUEUE_SIZE}"),
    script=traffic("vda") + ready(5),
    devices=(_disk("INORDERPACKED"),),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    check=_negotiated(on=(_IN_ORDER, _PACKED)),
    guest=guest.NEWER,
    versions=("10.0", "10.2"),
)

_HELD_OFFSET = 48 << 20
_HELD_DEVICE = (
    "virtio-blk-pci,id=disk0,drive=nbd0,num-queues=1,serial=INORDERHELD,addr=05.0"
    f",in_order=on,queue-size={_QUEUE_SIZE}"
)
_FILLED = 5
"""Requests that have ended and may not be used before the one that is held."""


def _hold_first(session: Session) -> None:
    server = session.servers["server0"]
    session.wait_held("server0", 1)
    passed = server.completed()
    session.wait_until(
        lambda: server.completed() >= passed + _FILLED, f"{_FILLED} requests pass the held one"
    )
    session.settle()
    session.notes["held_offset"] = _HELD_OFFSET
    session.ask()


def _check_held_back(truth: Any, servers: Any) -> None:
    _negotiated(on=(_IN_ORDER,))(truth, servers)
    in_use = sum(queue["fields"]["inuse"] for queue in truth["devices"][0]["queues"])
    held = sum(len(server["held"]) for server in servers)
    if held != 1 or in_use < 1 + _FILLED:
        raise GuestError(f"{in_use} in use, {held} of them held by the server")


IN_ORDER_HELD = Scenario(
    name="in-order-held",
    summary="one read held by the server; those after it have ended and wait for it in QEMU",
    arguments=(
        *Q35,
        *nbd_node("nbd0", "server0"),
        *("-device", _HELD_DEVICE),
    ),
    script=f"""
dd if=/dev/vda of=/dev/null bs=4k count=100 iflag=direct 2>/dev/null
dd if=/dev/vda of=/dev/null bs=4k skip={_HELD_OFFSET // 4096} count=1 iflag=direct 2>/dev/null &
sleep 2
{ready()}
for reader in 1 2 3 4 5 6; do
  dd if=/dev/vda of=/dev/null bs=4k skip=$((reader * 1000)) count=50 iflag=direct 2>/dev/null &
done
""",
    devices=(Device("disk0", "virtio-blk", "00:05.0", "INORDERHELD", None, "nbd0", 1, "server0"),),
    servers=(
        ServerPlan(
            "server0",
            (
                *("eval", "thread_model=echo parallel", "get_size=echo 64M"),
                f"pread=while [ $4 = {_HELD_OFFSET} ]; do sleep 0.1; done; head -c $3 /dev/zero",
                "pwrite=cat >/dev/null",
            ),
        ),
    ),
    incident=_hold_first,
    check=_check_held_back,
    guest=guest.NEWER,
    versions=("10.0", "10.2"),
)
