"""A small core straight from a running process, which goes on running."""

from __future__ import annotations

from bisect import bisect_right
from io import BytesIO
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from vringcore.elfcore.slimnote import Moved
from vringcore.layout.provider import LayoutStore
from vringcore.model.report import Tool
from vringcore.model.slim import SlimDocument
from vringcore.options import Options
from vringcore.qemu.files import ProgramFiles
from vringcore.slim.collect import ask_everything, include, open_traced, watch
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
    with open_live(pid, stop=stop) as live:
        options = _with_own_files(options or Options(), live)
        watch(live)
        files = ProgramFiles(live, options)
        try:
            process = open_traced(live, files, store or LayoutStore.default(), options)
            ask_everything(process)
            include(process, wanted)
            gathered = gather(process, redact_stacks=redact_stacks)
            live.resume()
            moved = list(_moved(process, live, gathered))
            written = _write(process, gathered, out, moved)
            process.store.save()
        finally:
            files.close()
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
            limits=tuple(process.limits),
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


def _moved(process: TracedProcess, live: LiveProcess, gathered: Gathered) -> Iterator[Moved]:
    """Yield what has changed since it was read, by the structures that it lies in."""
    places = process.traced.places
    starts = sorted(places)
    stacks = process.stacks.touched()
    ranges = ((start, end - start) for start, end in gathered.extents)
    for count, (address, size) in enumerate(live.moved(ranges)):
        if count >= MAX_MOVED:
            return
        index = bisect_right(starts, address) - 1
        what = ""
        if index >= 0 and address < starts[index] + places[starts[index]][0]:
            what = places[starts[index]][1]
        elif any(start <= address < end for start, end in stacks):
            what = "a stack"
        yield Moved(address, size, what or "memory")
