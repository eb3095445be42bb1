"""Two cores of one VM: what moved between them, and what did not.

An index that did not move while requests lasted turns "not returned" into "stuck". Whether a ring
is still is told by indices modulo 2^16; that a request is the same, by its head and the address of
QEMU's structure together, for QEMU uses both again.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from vringcore.api import TOOL
from vringcore.errors import UsageError
from vringcore.model.compare import (
    CompareDocument,
    IndexMove,
    Lasting,
    QueueChange,
    Side,
    ThreadChange,
)
from vringcore.model.queues import SplitGuest
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.ring_math import distance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.api import Core
    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.report import Report
    from vringcore.model.requests import InFlight
    from vringcore.model.threads import Thread

SHOWN = 8
"""Functions of a stack that are shown."""

DRIVERS = ("avail.idx", "last_avail_idx", "shadow_avail_idx")
"""Indices that move as requests come; the others move as they are completed."""

_ORDER = ("stuck", "slow", "unknown", "moving", "idle")


def compare(first: Core, second: Core) -> CompareDocument:
    """Return what changed from the first core to the second.

    :raises UsageError: if they are not of one process
    """
    before, after = first.why(), second.why()
    _check_same(before, after)
    elapsed = _elapsed(first, second)
    queues = tuple(_queues(before, after, elapsed))
    threads = tuple(_threads(before.threads or (), after.threads or ()))
    state = min((each.state for each in queues), key=_ORDER.index, default="idle")
    limits = list(dict.fromkeys((*before.limits, *after.limits)))
    if elapsed is None:
        limits.append(
            Limitation(
                "how much time lies between the cores is not known",
                "neither gdb nor the kernel writes when a core was taken",
                "`vringcore capture` does",
            )
        )
    elif elapsed < 0:
        limits.append(Limitation("the second core is the older one", "by their clocks"))
    return CompareDocument(
        tool=TOOL,
        first=_side(before),
        second=_side(after),
        elapsed_ns=elapsed,
        state=state,
        summary=_summary(state, queues, elapsed),
        queues=queues,
        threads=threads,
        limits=tuple(limits),
    )


def _check_same(before: Report, after: Report) -> None:
    """Refuse cores of two processes: addresses and indices of one say nothing of the other."""
    pairs = (
        ("build-id", before.core.build_id, after.core.build_id),
        ("VM's UUID", before.qemu.vm_uuid, after.qemu.vm_uuid),
        ("VM's name", before.qemu.vm_name, after.qemu.vm_name),
        ("pid", before.qemu.pid, after.qemu.pid),
    )
    for what, one, other in pairs:
        if isinstance(one, Absent) or isinstance(other, Absent) or one == other:
            continue
        raise UsageError(
            "the cores are not of one process",
            seen=f"{what} {one} and {other}",
            expected="two cores of one VM, taken one after the other",
        )
    places = [{d.address for d in report.devices or ()} for report in (before, after)]
    if all(places) and not places[0] & places[1]:
        raise UsageError(
            "the cores are not of one process",
            seen="no device at the same address",
            hint="QEMU was started again between them",
        )


def _elapsed(first: Core, second: Core) -> int | None:
    """Return the nanoseconds between two cores: by the host's own clock, else by the calendar."""
    slims = first.process.core.slim, second.process.core.slim
    clocks = [None if slim is None else slim.clock_ns for slim in slims]
    if clocks[0] is not None and clocks[1] is not None:
        return clocks[1] - clocks[0]
    times = [core.info.captured_at for core in (first, second)]
    if isinstance(times[0], str) and isinstance(times[1], str):
        one, other = (datetime.fromisoformat(each) for each in (times[0], times[1]))
        return int((other - one).total_seconds() * 1e9)
    return None


def _side(report: Report) -> Side:
    verdict = report.verdict or None
    return Side(
        core=report.core,
        qemu=report.qemu,
        state=verdict.state if verdict else "unknown",
        verdict=verdict.code if verdict else "",
        signature=report.signature or "",
    )


def _queues(before: Report, after: Report, elapsed: int | None) -> Iterator[QueueChange]:
    old = {device.address: device for device in before.devices or ()}
    for device in after.devices or ():
        known = old.get(device.address)
        if known is None:
            continue
        queues = {queue.index: queue for queue in known.queues or ()}
        for queue in device.queues or ():
            if queue.index in queues and queue.ring_state != "not-set-up":
                yield _queue(device, queues[queue.index], queue, elapsed)


def _queue(device: Device, old: Queue, new: Queue, elapsed: int | None) -> QueueChange:
    moves = tuple(_moves(old, new))
    first = {_identity(each): each for each in old.in_flight or ()}
    second = {_identity(each): each for each in new.in_flight or ()}
    lasting = tuple(_lasting(first[key], second[key], elapsed) for key in second if key in first)
    return QueueChange(
        device=device.index,
        device_id=device.id,
        kind=device.kind,
        queue=new.index,
        role=new.role,
        state=_state(moves, lasting, new),
        indices=moves,
        lasting=lasting,
        gone=len(first.keys() - second.keys()),
        new=len(second.keys() - first.keys()),
    )


def _state(moves: tuple[IndexMove, ...], lasting: tuple[Lasting, ...], new: Queue) -> str:
    completions = [move.steps for move in moves if move.name not in DRIVERS]
    known = [steps for steps in completions if isinstance(steps, int)]
    if not known:
        return "unknown"
    completed = any(known)
    if _waits_for_work(new) and not completed:
        # Buffers for what comes from outside lie there until something does.
        return "idle"
    if lasting:
        return "slow" if completed else "stuck"
    if completed or any(move.steps for move in moves if isinstance(move.steps, int)):
        return "moving"
    unseen = new.counts.unseen if new.counts else None
    return "stuck" if isinstance(unseen, int) and unseen and not new.stale else "idle"


def _waits_for_work(queue: Queue) -> bool:
    """Tell whether the driver puts empty buffers there, as for network packets and events."""
    return queue.role.startswith(_FILLED_BY_DEVICE)


_FILLED_BY_DEVICE = ("rx", "event", "receiveq", "inflate", "deflate", "stats", "free-page")


def _moves(old: Queue, new: Queue) -> Iterator[IndexMove]:
    """Yield what can be compared: guest's indices, and QEMU's where QEMU moves them."""
    if isinstance(old.guest, SplitGuest) and isinstance(new.guest, SplitGuest):
        yield _move("avail.idx", old.guest.avail_idx, new.guest.avail_idx)
        yield _move("used.idx", old.guest.used_idx, new.guest.used_idx)
    for name in ("last_avail_idx", "used_idx"):
        if name not in new.stale and name not in old.stale:
            yield _move(name, getattr(old, name), getattr(new, name), _rounds(old, new, name))


def _rounds(old: Queue, new: Queue, name: str) -> tuple[int, bool, bool] | None:
    """Return the size and both wrap counters of a packed ring, None for a split one."""
    counter = f"{name.removesuffix('_idx')}_wrap_counter"
    wraps = getattr(old, counter), getattr(new, counter)
    if new.ring != "packed" or not isinstance(new.size, int):
        return None
    if not isinstance(wraps[0], bool) or not isinstance(wraps[1], bool):
        return None
    return new.size, wraps[0], wraps[1]


def _move(
    name: str,
    first: int | Absent,
    second: int | Absent,
    packed: tuple[int, bool, bool] | None = None,
) -> IndexMove:
    if isinstance(first, Absent) or isinstance(second, Absent):
        missing = first if isinstance(first, Absent) else second
        assert isinstance(missing, Absent)
        return IndexMove(name, first, second, missing)
    if packed is None:
        return IndexMove(name, first, second, distance(second, first))
    size, one, other = packed
    position = first + size * one, second + size * other
    return IndexMove(name, first, second, (position[1] - position[0]) % (2 * size))


def _identity(each: InFlight) -> tuple[int, int | None]:
    return each.head, None if each.request is None else int(each.request.address)


def _lasting(old: InFlight, new: InFlight, elapsed: int | None) -> Lasting:
    ages = [
        each.age.nanoseconds
        for each in (new,)
        if each.age is not None and not isinstance(each.age, Absent)
    ]
    if elapsed is not None and elapsed > 0:
        ages.append(elapsed)
    return Lasting(
        head=new.head,
        address=None if new.request is None else new.request.address,
        summary=new.summary or old.summary,
        waits_in=new.waits_in[-1].place if new.waits_in else "",
        at_least_ns=max(ages, default=None),
    )


def _threads(old: tuple[Thread, ...], new: tuple[Thread, ...]) -> Iterator[ThreadChange]:
    before = {thread.lwp: thread for thread in old}
    after = {thread.lwp: thread for thread in new}
    for lwp in sorted(before.keys() | after.keys()):
        one, other = before.get(lwp), after.get(lwp)
        some = other or one
        assert some is not None
        if one is None or other is None:
            state = "new" if one is None else "gone"
        else:
            state = "same" if _position(one) == _position(other) else "moved"
        yield ThreadChange(lwp, some.role, state, _functions(one), _functions(other))


def _position(thread: Thread) -> list[tuple[int, int | None]]:
    return [(int(frame.pc), frame.cfa and int(frame.cfa)) for frame in thread.frames]


def _functions(thread: Thread | None) -> tuple[str, ...]:
    frames = thread.frames if thread is not None else ()
    return tuple(frame.function for frame in frames if frame.function)[:SHOWN]


def _summary(state: str, queues: tuple[QueueChange, ...], elapsed: int | None) -> str:
    time = "" if elapsed is None or elapsed < 0 else f" in {elapsed / 1e9:.1f} s"
    stuck = [each for each in queues if each.state == "stuck"]
    requests = sum(len(each.lasting) for each in stuck)
    if state == "stuck":
        named = sorted({str(each.device_id or each.kind) for each in stuck})
        moved = any(_completed(each) for each in queues)
        kept = (
            f"{_counted(requests, 'request')} in flight in both"
            if requests
            else "what the driver published was not taken"
        )
        rest = "; other queues go on" if moved else ""
        what = f"{_counted(len(stuck), 'queue')} of {', '.join(named)}"
        return f"Stuck: no completion came on {what}{time}, {kept}{rest}."
    if state == "slow":
        lasting = sum(len(each.lasting) for each in queues)
        return f"{_counted(lasting, 'request')} lasted{time} while others were completed."
    if state == "moving":
        return f"Everything moves: no request lasted{time}."
    if state == "idle":
        return f"No index moved{time}, and no request waits."
    return f"What moved{time} cannot be told: the cores lack what would say so."


def _completed(queue: QueueChange) -> bool:
    return any(
        isinstance(move.steps, int) and move.steps
        for move in queue.indices
        if move.name not in DRIVERS
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
