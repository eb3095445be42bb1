"""Which event loops there are, and which thread runs each.

QEMU keeps no list of them. They are found by name (``qemu_aio_context``, ``iohandler_ctx``), as
those of I/O threads, as a thread's own (``my_aiocontext``, thread-local), and as those that block
nodes work in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu.loop_structs import EventLoopContext, IOThreadLoop
from vringcore.qemu.roles import iothreads
from vringcore.qemu.thread_blocks import thread_blocks
from vringcore.qemu.thread_ids import ThreadIds
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

MAIN = "main"
IOHANDLER = "iohandler"

_NAMED = {"qemu_aio_context": MAIN, "iohandler_ctx": IOHANDLER}
"""Variables of util/main-loop.c. Both loops are sources of the main thread's glib loop."""

_OWN = ("co_tls_my_aiocontext", "my_aiocontext")
"""A thread's own event loop (util/async.c): since QEMU 7.0, since 6.1."""

_OWN_IOTHREAD = "my_iothread"
"""A thread's own IOThread (iothread.c), before that."""


VARIABLES = (
    *((name, "util/main-loop.c") for name in _NAMED),
    *((name, "util/async.c") for name in _OWN),
    (_OWN_IOTHREAD, "iothread.c"),
)
"""All of these, with the files that define them."""


class Place(msgspec.Struct, frozen=True):
    """An AioContext, its name, and the thread that runs it."""

    address: int
    name: str | Absent
    lwp: int | None


class Threads:
    """Joins QEMU's threads with the core's: by ``pthread_t`` where that is the thread pointer.

    On other machines, and of a thread whose registers nobody took, by the number that the thread
    had itself.
    """

    def __init__(self, process: Process) -> None:
        core = process.core
        self._pointers = {each.fs_base: each.lwp for each in core.threads if each.fs_base}
        self._ids = ThreadIds(process)
        first = core.prpsinfo.pid if core.prpsinfo is not None else None
        self.main = first if any(each.lwp == first for each in core.threads) else None

    def lwp_of(self, pthread: int, number: int = 0) -> int | None:
        """Return a thread's number in the core, None if it is not known to be there.

        :param number: what QEMU had as its number, 0 if that is kept nowhere
        """
        joined = self._pointers.get(pthread)
        if joined is not None:
            return joined
        own = number or self._ids.number_of(pthread)
        found = self._ids.lwp_of(own) if own else None
        return None if isinstance(found, Absent) else found


def find_loops(process: Process, threads: Threads, limits: list[Limitation]) -> list[Place]:
    """Return the event loops: the main loop's two, I/O threads', others.

    :param limits: is added to: where to look for them could not be told
    """
    own, error = collect(_own_loops(process))
    problems = [error]
    runs = {loop: lwp for lwp, loop in own if loop}
    found: dict[int, Place] = {}
    for walk in (_named(process), _of_iothreads(process, threads)):
        places, error = collect(walk)
        problems.append(error)
        for each in places:
            found.setdefault(each.address, each)
    main = next((each.address for each in found.values() if each.name == MAIN), 0)
    main_thread = runs.get(main, threads.main)
    others, error = collect(_of_nodes(process))
    problems.append(error)
    for address in (*runs, *others):
        unknown = Absent("not-found", None, "no I/O thread of QEMU's object tree owns it")
        found.setdefault(address, Place(address, unknown, None))
    limits += [
        Limitation("event loops may be missing", str(problem), problem.hint)
        for problem in problems
        if problem is not None
    ]
    return [
        msgspec.structs.replace(place, lwp=_runner(place, runs, main_thread))
        for place in found.values()
        if _is_loop(process, place, limits)
    ]


def _runner(place: Place, runs: dict[int, int], main_thread: int | None) -> int | None:
    if place.name in (MAIN, IOHANDLER):
        return main_thread
    return place.lwp or runs.get(place.address)


def _named(process: Process) -> Iterator[Place]:
    views = process.views
    for variable, name in _NAMED.items():
        place = views.find_address_of(variable, "util/main-loop.c")
        address = views.pointer(place) if place is not None else 0
        if address:
            yield Place(address, name, None)


def _of_iothreads(process: Process, threads: Threads) -> Iterator[Place]:
    views = process.views
    for name, address in iothreads(views, process.objects):
        thread = views.at(IOThreadLoop, address)
        if thread.ctx:
            yield Place(thread.ctx, name, threads.lwp_of(thread.thread, thread.thread_id))


def _own_loops(process: Process) -> Iterator[tuple[int, int]]:
    """Yield each thread's number and its own event loop, 0 where it has none."""
    views = process.views
    layouts = views.layouts
    variables = (layouts.find_variable(name, "util/async.c") for name in _OWN)
    variable = next((each for each in variables if each is not None), None)
    through_iothread = variable is None
    if variable is None:
        variable = layouts.find_variable(_OWN_IOTHREAD, "iothread.c")
    if variable is None or not variable.thread_local:
        return
    for lwp, block in thread_blocks(process):
        own = views.pointer(block + variable.address)
        if own and through_iothread:
            own = views.at(IOThreadLoop, own).ctx
        yield lwp, own


def _of_nodes(process: Process) -> Iterator[int]:
    layer = process.block
    for node in layer.noting(layer.nodes)[0]:
        if node.view.aio_context:
            yield node.view.aio_context


def _is_loop(process: Process, place: Place, limits: list[Limitation]) -> bool:
    """Tell whether an AioContext lies there: a glib source of that kind."""
    views = process.views
    try:
        kind = views.find_address_of("aio_source_funcs", "util/async.c")
        if kind is None:
            return True  # nothing to hold it against
        at = views.offset(EventLoopContext.c_type, "source.source_funcs", EventLoopContext.unit)
        seen = views.pointer(place.address + at)
        if seen == kind:
            return True
        raise CorruptDataError(
            "no AioContext lies there",
            where=f"{place.address:#x}, source.source_funcs",
            seen=f"{seen:#x}",
            expected=f"aio_source_funcs, {kind:#x}",
        )
    except VringcoreError as error:
        name = place.name if isinstance(place.name, str) else f"at {place.address:#x}"
        limits.append(Limitation(f"the event loop {name} is not shown", str(error), error.hint))
        return False
