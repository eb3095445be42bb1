"""A small core straight from a running process, which goes on running."""

from __future__ import annotations

from bisect import bisect_right
from io import BytesIO
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from vringcore.elfcore.slimnote import Moved
from vringcore.errors import VringcoreError
from vringcore.layout.store import LayoutStore
from vringcore.model.report import Limitation, Tool
from vringcore.model.slim import SlimDocument
from vringcore.options import Options
from vringcore.slim.collect import asked
from vringcore.slim.live import open_live
from vringcore.slim.output import whole_file
from vringcore.slim.write import gather, write_slim
from vringcore.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.slim.collect import TracedProcess
    from vringcore.slim.live import LiveProcess
    from vringcore.slim.write import Gathered, Written

MAX_MOVED = 10_000
"""Changed places that a core tells of."""


def capture_process(
    pid: int,
    out: str | None,
    *,
    options: Options | None = None,
    store: LayoutStore | None = None,
    wanted: Iterable[str] = (),
    redact_stacks: bool = False,
    stop: float | None = None,
) -> SlimDocument:
    """Write a small core of a running QEMU process, as :func:`vringcore.slim_core` does of a core.

    Nothing is stopped unless ``stop`` says so: the process is read through /proc, threads that wait
    in the kernel for ever hinder nobody. What the kernel knows of its threads, their names, states,
    system calls and kernel stacks, goes into the core. What changed while it was read is told.

    :param out: the file to write; None plans only: everything is read and nothing is written
    :param stop: stop its threads for at most so many seconds, for their registers and for a memory
        that stands still
    :raises VringcoreError: as :func:`~.live.open_live` and :func:`vringcore.slim_core` do
    """
    began = perf_counter()
    options, store = options or Options(), store or LayoutStore.default()
    wanted = tuple(wanted)
    if stop is not None:
        # What the debug information answers is learned before anything stands still for it.
        with open_live(pid) as live, asked(live, _with_own_files(options, live), store, wanted):
            pass
    with (
        open_live(pid, stop=stop) as live,
        asked(live, _with_own_files(options, live), store, wanted) as process,
    ):
        gathered = gather(process, redact_stacks=redact_stacks)
        moved, limits = _moved(process, live, gathered)
        live.resume()
        written = _write(process, gathered, out, moved)
        return SlimDocument(
            tool=Tool("vringcore", VERSION),
            path=out,
            original=f"pid {live.pid}",
            original_size=live.size,
            size=written.size,
            parts=written.parts,
            masked=written.masked,
            left_out=written.left_out,
            seconds=round(perf_counter() - began, 3),
            limits=(*process.limits, *limits, *_not_stopped(live)),
        )


def _not_stopped(live: LiveProcess) -> Iterator[Limitation]:
    """Say which threads ran on although they were to be stopped."""
    stopped = live.stopped
    if stopped is None:
        return
    if stopped.running:
        named = ", ".join(f"{lwp} ({why})" for lwp, why in sorted(stopped.running.items()))
        yield Limitation("not every thread could be stopped", named)
    if stopped.expired:
        yield Limitation(
            "the time for which the threads may be stopped was over before all was read",
            f"they ran on after {stopped.limit:g} s",
            "allow more with --stop SECONDS",
        )


def _with_own_files(options: Options, live: LiveProcess) -> Options:
    """Let the very program that runs be found, wherever its file has gone."""
    return msgspec.structs.replace(
        options,
        executable=options.executable or live.executable_file,
        sysroot=options.sysroot or live.sysroot,
    )


def _write(
    process: TracedProcess, gathered: Gathered, out: str | None, moved: list[Moved]
) -> Written:
    if out is None:
        return write_slim(process, gathered, BytesIO(), moved)
    with whole_file(out) as file:
        return write_slim(process, gathered, file, moved)


def _moved(
    process: TracedProcess, live: LiveProcess, gathered: Gathered
) -> tuple[list[Moved], list[Limitation]]:
    """Return what has changed since it was read, by the structures that it lies in."""
    places = process.traced.places
    starts = sorted(places)
    stacks = process.stacks.touched()
    try:
        changed = live.moved((start, end - start) for start, end in gathered.extents)
    except VringcoreError as error:
        what = "whether anything changed while it was read is not known"
        return [], [Limitation(what, str(error))]
    found = []
    for address, size in changed[:MAX_MOVED]:
        index = bisect_right(starts, address) - 1
        what = ""
        if index >= 0 and address < starts[index] + places[starts[index]][0]:
            what = places[starts[index]][1]
        elif any(start <= address < end for start, end in stacks):
            what = "a stack"
        found.append(Moved(address, size, what or "memory"))
    return found, []
