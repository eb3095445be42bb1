"""What wakes coroutines: every place of QEMU's own that one may be entered from again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import stacks
from vringcore.diagnose.values import many
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.model.coroutines import Coroutine

LISTS = ("list", "coroutine", "event loop", "timer")
"""Words of a limitation that says that a place may have been missed."""

OWN_STACK = 1 << 20
"""A coroutine's stack is no larger (COROUTINE_STACK_SIZE, include/qemu/coroutine_int.h)."""


class Wakeups:
    """The coroutines that something will enter, and the structures on stacks that will do so."""

    __slots__ = ("_coroutines", "_places", "complete")

    def __init__(self, facts: Facts) -> None:
        self._coroutines = set(_entered(facts))
        self._places = set(_opaques(facts))
        self.complete = _is_complete(facts)

    def wakes(self, coroutine: Coroutine) -> bool:
        """Tell whether something is known that enters a coroutine again."""
        address = int(coroutine.address)
        if coroutine.caller is not None or address in self._coroutines | self._places:
            return True
        return any(_is_on_stack(place, coroutine) for place in self._places)


def wakeups(facts: Facts) -> Wakeups:
    """Return what wakes the coroutines of a report."""
    return facts.once("wakeups", Wakeups)


def _entered(facts: Facts) -> Iterator[int]:
    """Yield the coroutines in QEMU's lists of such that are to be entered."""
    for loop in facts.loops:
        yield from map(int, many(loop.scheduled))
    for engine in facts.engines:
        yield from (int(e.coroutine) for e in engine.elements if e.coroutine is not None)
    for node in facts.nodes:
        yield from map(int, many(node.flushes))
        for request in many(node.tracked):
            yield from map(int, request.waiters)
        if node.nbd is not None and not isinstance(node.nbd, Absent):
            yield from map(int, many(node.nbd.waiting))
    for backend in facts.backends:
        yield from map(int, many(backend.queued))
    for lock in facts.locks:
        yield from map(int, lock.waiting_coroutines)
    for job in facts.jobs:
        if job.coroutine is not None and not isinstance(job.coroutine, Absent):
            yield int(job.coroutine)


def _opaques(facts: Facts) -> Iterator[int]:
    """Yield what callbacks of event loops are given: a coroutine, or a structure on its stack."""
    for loop in facts.loops:
        yield from (int(each.opaque) for each in many(loop.handlers))
        yield from (int(each.opaque) for each in many(loop.bottom_halves))
        yield from (int(each.opaque) for each in many(loop.timers))


def _is_on_stack(place: int, coroutine: Coroutine) -> bool:
    known = [int(frame.cfa) for frame in coroutine.frames if frame.cfa is not None]
    # Below the innermost frame's beginning lie that frame's own variables.
    return bool(known) and min(known) - 4096 <= place <= max(known) <= min(known) + OWN_STACK


def _is_complete(facts: Facts) -> bool:
    """Tell whether all places that wake coroutines were read, as far as the report says."""
    cut = any(word in limit.what for limit in facts.report.limits for word in LISTS)
    lists: list[object] = [
        each
        for loop in facts.loops
        for each in (loop.handlers, loop.bottom_halves, loop.timers, loop.scheduled)
    ]
    lists += [node.tracked for node in facts.nodes] + [node.flushes for node in facts.nodes]
    return bool(facts.loops) and not cut and not any(isinstance(each, Absent) for each in lists)


def home_sleeps(facts: Facts, coroutine: Coroutine) -> bool:
    """Tell whether the thread of a coroutine's event loop is known to sleep in it."""
    place = coroutine.event_loop
    loop = None if place is None or isinstance(place, Absent) else facts.loop(int(place))
    thread = None if loop is None else facts.thread(loop.lwp)
    return thread is not None and stacks.sleeps(thread)
