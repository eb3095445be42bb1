"""The facts that gdb and QEMU's monitor state about a core, and what a report says of each.

A fact is one value under a name, so that a report of which parts are missing is counted, not
given up: a fact is equal, absent (vringcore says that it is not there) or differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from tests.lab.cases import CoreCase
from tests.lab.compare import char_array, flatten
from tests.lab.qmp_compare import SCALARS_OF_A_DEVICE, SCALARS_OF_A_QUEUE, UNCHANGING
from vringcore.model.devices import Device
from vringcore.model.queues import SplitGuest
from vringcore.model.report import Report
from vringcore.model.requests import BlockRequest
from vringcore.model.values import Absent

PARTS = {"devices", "device-fields", "queues", "queue-fields", "requests", "threads", "block"}
"""What the facts are about, as ``Core.report`` names it."""

TRAMPOLINE = "coroutine_trampoline"
GENERATED = "code_gen_buffer"
"""gdb's name for code that TCG made: what called it nobody can tell."""

_EVENT_IDX = 1 << 29

Fact = tuple[str, Any]


@dataclass
class Count:
    """Of the facts about one core: how many are equal, which are absent, which differ."""

    equal: int = 0
    absent: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)


def compare(core: CoreCase, report: Report) -> Count:
    """Hold a report against all that was said of a core."""
    ours = dict(_ours(report))
    count = Count()
    for name, value in (*_of_gdb(core), *_of_qmp(core)):
        mine = ours.get(name)
        if name in ours and mine == value:
            count.equal += 1
        elif mine is None or isinstance(mine, Absent):
            count.absent.append(name)
        else:
            count.differing.append(f"{name}: vringcore {mine!r}, truth {value!r}")
    return count


def _of_gdb(core: CoreCase) -> Iterator[Fact]:
    truth = {part: core.gdb.get(part, []) for part in ("devices", "requests", "threads")}
    truth |= {"block": {"backends": [], "nodes": []}} | core.gdb
    for device in truth["devices"]:
        name = f"device {device['address']:#x}"
        yield f"{name} id", device["id"]
        yield f"{name} path", device["canonical_path"]
        yield f"{name} type", device["qom_types"][0]
        yield from _leaves(name, device["fields"])
        for number, queue in enumerate(device["queues"]):
            yield f"{name} queue {number} address", queue["address"]
            yield from _leaves(f"{name} queue {number}", queue["fields"])
            yield from _of_rings(f"{name} queue {number}", device, queue)
    for request in truth["requests"]:
        name = f"request {request['address']:#x}"
        yield f"{name} device", request["device"]
        yield f"{name} queue", request["queue"]
        yield f"{name} head", request["index"]
        yield f"{name} type", request["type"]
    for each in truth["block"]["backends"]:
        yield f"back-end {each['address']:#x} in flight", each["in_flight"]
        yield f"back-end {each['address']:#x} quiesce", each["quiesce_counter"]
    for each in truth["block"]["nodes"]:
        yield f"node {each['node_name']} driver", each["driver"]
        yield f"node {each['node_name']} in flight", each["in_flight"]
        yield f"node {each['node_name']} quiesce", each["quiesce_counter"]
    if state := core.gdb.get("state"):
        yield "machine", state["machine_type"].removesuffix("-machine")
        yield "run state", _plain(state["run_state"]["name"], "RUN_STATE_")
    for thread in truth["threads"]:
        yield from _of_stack(thread)


def _of_rings(name: str, device: dict[str, Any], queue: dict[str, Any]) -> Iterator[Fact]:
    rings = queue.get("rings") or {}
    if device["fields"]["guest_features"] >> 34 & 1 or not (rings.get("avail") and rings["used"]):
        return
    avail, used = bytes.fromhex(rings["avail"]), bytes.fromhex(rings["used"])
    yield f"{name} ring avail", _word(avail, 2)
    yield f"{name} ring used", _word(used, 2)
    if device["fields"]["guest_features"] & _EVENT_IDX:
        size = queue["fields"]["vring.num"]
        yield f"{name} ring used_event", _word(avail, 4 + 2 * size)
        yield f"{name} ring avail_event", _word(used, 4 + 8 * size)


def _of_stack(thread: dict[str, Any]) -> Iterator[Fact]:
    if not thread["frames"] or thread["frames"][0]["pc"] == 0:
        return
    outer = [frame for frame in thread["frames"] if not frame["inlined"]]
    functions = [frame["function"] for frame in outer]
    if TRAMPOLINE in functions:  # gdb does not end where a coroutine's stack began, one frame later
        outer = outer[: functions.index(TRAMPOLINE) + 2]
    known = takewhile(lambda frame: frame["function"] != GENERATED, outer)
    yield from _frames(thread["lwp"], (frame["pc"] for frame in known))


def _frames(lwp: int, places: Iterable[int]) -> Iterator[Fact]:
    """One fact for each frame: that it is there, for the first time, the second ..."""
    seen: Counter[int] = Counter()
    for place in places:
        seen[place] += 1
        yield f"thread {lwp} at {place:#x}, {seen[place]}", True


def _of_qmp(core: CoreCase) -> Iterator[Fact]:
    """What the monitor said before and after; of a core taken later, what never changes."""
    before, after = core.case.qmp_before, core.case.qmp_after
    if not before or "virtio" not in before:
        return
    later = after["virtio"] if after and core.while_alive else before["virtio"]
    every = bool(after) and core.while_alive
    for old, new in zip(before["virtio"], later, strict=True):
        name = f"QMP {old['path']}"
        yield f"{name} name", old["name"]
        for key in SCALARS_OF_A_DEVICE:
            if _holds(key, old["status"], new["status"], every):
                yield f"{name} {key}", old["status"][key]
        for number, (was, is_) in enumerate(zip(old["queues"], new["queues"], strict=True)):
            for key in SCALARS_OF_A_QUEUE:
                if _holds(key, was, is_, every):
                    yield f"{name} queue {number} {key}", was[key]


def _holds(key: str, old: dict[str, Any], new: dict[str, Any], every: bool) -> bool:
    return key in old and old[key] == new.get(key) and (every or key in UNCHANGING)


def _ours(report: Report) -> Iterator[Fact]:
    yield "machine", report.qemu.machine_type
    yield "run state", report.qemu.run_state
    for device in _listed(report.devices):
        yield from _of_device(device)
    block = report.block
    for backend in _listed(getattr(block, "backends", ())):
        name = f"back-end {int(backend.backend.address):#x}"
        yield f"{name} in flight", backend.backend.in_flight
        yield f"{name} quiesce", backend.backend.quiesce_counter
    for node in _listed(getattr(block, "nodes", ())):
        yield f"node {node.name} driver", node.driver
        yield f"node {node.name} in flight", node.in_flight
        yield f"node {node.name} quiesce", node.quiesce_counter
    for thread in _listed(report.threads):
        yield from _frames(thread.lwp, (int(f.pc) for f in thread.frames if not f.inlined))


def _of_device(device: Device) -> Iterator[Fact]:
    name, said = f"device {int(device.address):#x}", f"QMP {device.qom_path}"
    yield f"{name} id", device.id
    yield f"{name} path", device.qom_path
    yield f"{name} type", device.type_name
    fields = flatten(device.fields) if isinstance(device.fields, dict) else {}
    yield from _leaves(name, fields)
    yield f"{said} name", "virtio-blk" if device.kind == "vhost-user-blk" else device.kind
    for key, member in SCALARS_OF_A_DEVICE.items():
        yield f"{said} {key}", fields.get(member)
    for queue in _listed(device.queues):
        own = f"{name} queue {queue.index}"
        yield f"{own} address", int(queue.address)
        members = flatten(queue.fields) if isinstance(queue.fields, dict) else {}
        yield from _leaves(own, members)
        for key, member in SCALARS_OF_A_QUEUE.items():
            yield f"{said} queue {queue.index} {key}", members.get(member)
        if isinstance(queue.guest, SplitGuest):
            yield f"{own} ring avail", queue.guest.avail_idx
            yield f"{own} ring used", queue.guest.used_idx
            yield f"{own} ring used_event", queue.guest.used_event
            yield f"{own} ring avail_event", queue.guest.avail_event
        for held in _listed(queue.in_flight):
            if isinstance(held.request, BlockRequest):
                request = f"request {int(held.request.address):#x}"
                yield f"{request} device", int(device.address)
                yield f"{request} queue", queue.index
                yield f"{request} head", held.head
                yield f"{request} type", held.request.type


def _leaves(name: str, fields: dict[str, Any]) -> Iterator[Fact]:
    for path, value in fields.items():
        yield f"{name} {path}", char_array(value)


def _listed(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else ()


def _plain(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", "-")


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")
