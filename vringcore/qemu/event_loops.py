"""Event loops as reports show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vringcore.errors import VringcoreError
from vringcore.model.loops import EventLoop
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.handlers import bottom_halves, handlers
from vringcore.qemu.loop_structs import EventLoopContext, ScheduledCoroutine
from vringcore.qemu.loops_owners import Owners
from vringcore.qemu.loops_places import MAIN, Threads, find_loops
from vringcore.qemu.loops_words import NO_SYMBOL
from vringcore.qemu.timers import armed_timers
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.model.loops import Timer
    from vringcore.model.values import Hex
    from vringcore.qemu.devices import Devices
    from vringcore.qemu.loops_places import Place
    from vringcore.qemu.process import Process
    from vringcore.view.views import Views

T = TypeVar("T")

MAX_COROUTINES = 10_000

_WAITS = {
    "fdmon_poll_ops": "poll",
    "fdmon_epoll_ops": "epoll",
    "fdmon_io_uring_ops": "io-uring",
}
"""Names of the ways to sleep, by the variables that ``fdmon_ops`` points to (util/fdmon-*.c)."""


def event_loops(
    process: Process, devices: Devices, limits: list[Limitation]
) -> tuple[EventLoop, ...]:
    """Return the event loops: the main loop's two, those of I/O threads, others.

    :param devices: whose queues' notifiers are among what loops watch
    :param limits: is added to: what could not be had
    """
    views = process.views
    try:
        places = find_loops(process, Threads(process), limits)
        contexts = [views.at(EventLoopContext, place.address) for place in places]
    except VringcoreError as error:
        limits.append(Limitation("event loops are not shown", str(error), error.hint))
        return ()
    owners = Owners(process, devices)
    for place, context in zip(places, contexts, strict=True):
        owners.add_loop(context, _name(place))
    if owners.problem is not None:
        what = "whose every watched file descriptor is, is not known"
        limits.append(Limitation(what, str(owners.problem), owners.problem.hint))
    return tuple(
        _model(process, place, context, owners, limits)
        for place, context in zip(places, contexts, strict=True)
    )


def _name(place: Place) -> str:
    return place.name if isinstance(place.name, str) else f"at {place.address:#x}"


def _model(
    process: Process,
    place: Place,
    loop: EventLoopContext,
    owners: Owners,
    limits: list[Limitation],
) -> EventLoop:
    views = process.views

    def kept(what: str, walk: Iterable[T]) -> tuple[T, ...] | Absent:
        found, error = collect(walk)
        if error is None:
            return tuple(found)
        name = f"{what} of the event loop {_name(place)}"
        limits.append(Limitation(f"not all {name} are shown", str(error), error.hint))
        return tuple(found) or absence_of(error)

    return EventLoop(
        address=Address(place.address),
        name=place.name,
        lwp=place.lwp,
        waits_by=attempt(lambda: _waits_by(views, loop.fdmon_ops)),
        polling=attempt(lambda: loop.poll_started),
        poll_max_ns=attempt(lambda: loop.poll_max_ns),
        notify_me=attempt(lambda: loop.notify_me),
        notified=attempt(lambda: loop.notified),
        external_disabled=attempt(lambda: loop.external_disable_cnt),
        handlers=kept("handlers", handlers(process, loop, owners)),
        bottom_halves=kept("bottom halves", bottom_halves(process, loop)),
        timers=kept("timers", _timers(process, place, loop)),
        scheduled=kept("scheduled coroutines", _scheduled(views, loop)),
    )


def _waits_by(views: Views, address: int) -> str | Absent:
    found = views.symbols.lookup(address)
    if found is None or found[1]:
        return Absent(NO_SYMBOL, Address(address), "AioContext.fdmon_ops names no known way")
    return _WAITS.get(found[0], found[0])


def _timers(process: Process, place: Place, loop: EventLoopContext) -> Iterator[Timer]:
    yield from armed_timers(process, loop.timers)
    if place.name == MAIN:
        views = process.views
        group = views.address_of("main_loop_tlg", "util/qemu-timer.c")
        yield from armed_timers(process, group + views.offset("struct QEMUTimerListGroup", "tl"))


def _scheduled(views: Views, loop: EventLoopContext) -> Iterator[Hex]:
    head = loop.scheduled_coroutines
    for each in views.elements(head, ScheduledCoroutine, "co_scheduled_next", limit=MAX_COROUTINES):
        _ = each.entry  # where nothing can be read, there is no coroutine
        yield Address(each.address_)
