"""What the queues that two cores have did between them.

Whether a ring is still is told by indices modulo 2^16; that a request is the same, by its head, the
address of QEMU's structure, what it asks for and when it began together: a busy QEMU uses the first
two again at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.compare import IndexMove, Lasting, QueueChange
from vringcore.model.queues import SplitGuest
from vringcore.model.requests import BlockRequest
from vringcore.model.values import Absent
from vringcore.ring_math import distance
from vringcore.scan.pair import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.report import Report
    from vringcore.model.requests import InFlight
    from vringcore.scan.pair import Elapsed

DRIVERS = ("avail.idx", "last_avail_idx", "shadow_avail_idx")
"""Indices that move as requests come; the others move as they are completed."""

LEAST_NS = SECOND_NS
"""What has not moved for less than this is not yet stuck: a disk may take as long."""

_TAKEN = ("last_avail_idx", "shadow_avail_idx")
_RUNNING = "running"


class Changes:
    """Compares the queues of all devices that both cores have."""

    def __init__(self, before: Report, after: Report, between: Elapsed, one_file: str) -> None:
        self._before = before
        self._after = after
        self._elapsed = between
        self._one_file = one_file
        self._paused = paused_in(before, after)

    def queues(self) -> Iterator[QueueChange]:
        old = {device.address: device for device in self._before.devices or ()}
        for device in self._after.devices or ():
            known = old.get(device.address)
            if known is None:
                continue
            queues = {queue.index: queue for queue in known.queues or ()}
            for queue in device.queues or ():
                if queue.index in queues and queue.ring_state != "not-set-up":
                    yield self._queue(device, queues[queue.index], queue)

    def _queue(self, device: Device, old: Queue, new: Queue) -> QueueChange:
        moves = tuple(_moves(old, new, self._one_file))
        first = {_identity(each): each for each in old.in_flight or ()}
        second = {_identity(each): each for each in new.in_flight or ()}
        between = self._elapsed.nanoseconds
        lasting = tuple(
            _lasting(first[key], second[key], between) for key in second if key in first
        )
        return QueueChange(
            device=device.index,
            device_id=device.id,
            kind=device.kind,
            queue=new.index,
            role=new.role,
            state=self._state(moves, lasting, old, new),
            indices=moves,
            lasting=lasting,
            gone=len(first.keys() - second.keys()),
            new=len(second.keys() - first.keys()),
        )

    def _state(
        self, moves: tuple[IndexMove, ...], lasting: tuple[Lasting, ...], old: Queue, new: Queue
    ) -> str:
        completions = [move.steps for move in moves if move.name not in DRIVERS]
        known = [steps for steps in completions if isinstance(steps, int)]
        if not known:
            return "unknown"
        completed = any(known)
        if _waits_for_work(new) and not completed:
            # Buffers for what comes from outside lie there until something does.
            return "idle"
        if lasting and completed:
            return "slow"
        if lasting:
            return "stuck" if self._long_enough(lasting) else "unknown"
        if completed or any(
            m.steps for m in moves if m.name in _TAKEN and isinstance(m.steps, int)
        ):
            return "moving"
        if all(map(_published, (old, new))) and not new.stale and not self._paused:
            return "stuck" if self._long_enough(()) else "unknown"
        return "moving" if any(isinstance(m.steps, int) and m.steps for m in moves) else "idle"

    def _long_enough(self, lasting: tuple[Lasting, ...]) -> bool:
        """Tell whether what has not moved had time to; it had, where nothing tells otherwise."""
        between = self._elapsed.nanoseconds
        if between is None:
            return True
        return max([between, *(each.at_least_ns or 0 for each in lasting)]) >= LEAST_NS


def _published(queue: Queue) -> bool:
    """Tell whether the driver has published something that was not taken."""
    unseen = queue.counts.unseen if queue.counts else None
    return isinstance(unseen, int) and unseen > 0


def _waits_for_work(queue: Queue) -> bool:
    """Tell whether the driver puts empty buffers there, as for network packets and events."""
    return queue.role.startswith(_FILLED_BY_DEVICE)


_FILLED_BY_DEVICE = ("rx", "event", "receiveq", "inflate", "deflate", "stats", "free-page")


def _moves(old: Queue, new: Queue, one_file: str) -> Iterator[IndexMove]:
    """Yield what can be compared: guest's indices, and QEMU's where QEMU moves them."""
    if isinstance(old.guest, SplitGuest) and isinstance(new.guest, SplitGuest) and not one_file:
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


def _identity(each: InFlight) -> tuple[object, ...]:
    """Return what tells a request from those before it with the same head and structure."""
    request = each.request
    if request is None:
        return (each.head,)
    began = request.started_ns
    place = request.sector if isinstance(request, BlockRequest) else None
    return (
        each.head,
        int(request.address),
        request.operation,
        None if isinstance(place, Absent) else place,
        None if isinstance(request.length, Absent) else request.length,
        None if isinstance(began, Absent) else began,
    )


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


def paused_in(before: Report, after: Report) -> str:
    """Return the run state in which both cores found the VM, "" if its vCPUs ran in one."""
    states = {before.qemu.run_state, after.qemu.run_state}
    state = states.pop()
    return state if not states and isinstance(state, str) and state != _RUNNING else ""


def completed(queue: QueueChange) -> bool:
    """Tell whether anything was given back to the driver."""
    return any(
        isinstance(move.steps, int) and move.steps
        for move in queue.indices
        if move.name not in DRIVERS
    )
