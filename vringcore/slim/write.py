"""Writes a small core: what was collected, cleaned, with notes that say what it is."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.elfcore import slimnote
from vringcore.elfcore.notes import AT_RANDOM, SLIM_OWNER
from vringcore.elfcore.slimnote import Lost, Mapped, Moved, SlimNote
from vringcore.elfcore.slimspace import joined, lost_of
from vringcore.elfcore.writer import write_core
from vringcore.errors import VringcoreError
from vringcore.layout.bundle import to_json
from vringcore.layout.recorded import names_in
from vringcore.memory.trace import merge
from vringcore.model.slim import SlimPart
from vringcore.model.values import Absent
from vringcore.qemu.captured import NOT_RECORDED, taken_at
from vringcore.qemu.commandline import argument_places, arguments
from vringcore.qemu.ramblocks import ram_blocks
from vringcore.qemu.redact import redact
from vringcore.slim.kept import KeptSpace, segments_of, without
from vringcore.slim.notes import built_notes, file_note, kept_notes, unnamed_files
from vringcore.slim.scrub import Scrubber, environment_values, secrets_of
from vringcore.version import VERSION
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from vringcore.elfcore.image import ProcessImage
    from vringcore.slim.collect import TracedProcess
    from vringcore.slim.notes import RawNote

DEFACED = 0x0DEFACED0DEFACED
"""What stands for a word of a stack that is neither a pointer nor a small number."""

SMALL = 4096

MAX_ENVIRONMENT = 1 << 20
MAX_VARIABLES = 4096

LEFT_OUT = (
    "guest memory but for rings, descriptor tables and request headers",
    "data buffers",
    "vector registers",
    "the environment",
)


class Written(msgspec.Struct, frozen=True):
    """What was written.

    :param size: bytes of the core
    :param parts: what it holds, by kind of memory
    :param masked: places where a secret was overwritten
    :param left_out: what was left out on purpose, in words
    """

    size: int
    parts: tuple[SlimPart, ...]
    masked: int
    left_out: tuple[str, ...]


class Gathered(msgspec.Struct, frozen=True):
    """The bytes to write, cleaned; the process is not read any more.

    :param extents: where they lie
    :param argv: the command line as it was given, None if it is not known
    """

    kept: KeptSpace
    extents: tuple[tuple[int, int], ...]
    argv: tuple[str, ...] | None
    masked: int
    redact_stacks: bool


def gather(process: TracedProcess, *, redact_stacks: bool = False) -> Gathered:
    """Copy what a process was asked, without what is nobody's business.

    :param redact_stacks: of what only the stacks hold, keep no word but pointers and small numbers
    """
    process.trace.muted = True
    argv = _argv(process)
    kept, masked = _memory(process, argv or (), redact_stacks=redact_stacks)
    return Gathered(kept, tuple(kept.extents()), argv, masked, redact_stacks)


def write_slim(
    process: TracedProcess, gathered: Gathered, out: BinaryIO, moved: Sequence[Moved] = ()
) -> Written:
    """Write a core.

    :param out: a file open for writing, at its start
    :param moved: what changed while a live process was read
    """
    left_out = _left_out(gathered, process.core.slim)
    notes = [*_original_notes(process), *_own_notes(process, gathered, left_out, moved)]
    segments = list(segments_of(process.backtraces.space.ranges(), gathered.extents))
    size = write_core(out, gathered.kept, segments, notes, process.core.header)
    return Written(
        size=size,
        parts=parts_of(process, gathered.extents),
        masked=gathered.masked,
        left_out=left_out,
    )


def extents_of(process: TracedProcess) -> list[tuple[int, int]]:
    """Return what would be kept, as far as it is there, before anything is copied."""
    secret = _secret_places(process, _argv(process) or ())
    touched = [trace.touched() for trace in (process.trace, process.stacks, process.included)]
    return list(without(merge([*chain.from_iterable(touched)]), secret))


def parts_of(process: TracedProcess, extents: Sequence[tuple[int, int]]) -> tuple[SlimPart, ...]:
    """Return how much of each kind of memory some extents are."""
    blocks, _ = collect(ram_blocks(process.views))
    guest = merge([(int(b.host), int(b.host + b.max_length)) for b in blocks])
    files = merge([(m.start, m.end) for module in process.core.modules for m in module.mappings])
    found = []
    for what, kind in (
        ("guest memory", guest),
        ("as asked", process.included.touched()),
        ("stacks", process.stacks.touched()),
        ("program files", files),
    ):
        outside = list(without(extents, kind))
        found.append(SlimPart(what, *_measure(without(extents, outside))))
        extents = outside
    found.append(SlimPart("structures", *_measure(extents)))
    return tuple(part for part in found if part.bytes)


def _measure(extents: Iterable[tuple[int, int]]) -> tuple[int, int]:
    sizes = [end - start for start, end in extents]
    return len(sizes), sum(sizes)


# Memory


def _memory(
    process: TracedProcess, argv: Sequence[str], *, redact_stacks: bool
) -> tuple[KeptSpace, int]:
    kept = KeptSpace()
    kept.copy(process.backtraces.space, extents_of(process))
    scrubber = Scrubber(secrets_of(argv))
    writable = [(r.address, r.address + r.size) for r in process.core.memory.ranges() if r.writable]
    writable += [(pages.address, pages.end) for pages in process.core.shared]
    # The program's constants hold no secrets, but words that a weak password may be.
    kept.change(lambda start, data: scrubber(data) if _meets(writable, start) else data)
    read = merge([*process.trace.touched(), *process.included.touched()])
    only_stacks = list(without(process.stacks.touched(), read))
    hide = Scrubber(environment_values(_environment(process), argv))
    deface = _Defacer(process) if redact_stacks else None

    def clean(start: int, data: bytes) -> bytes:
        changed = bytearray(data)
        for low, high in _overlaps(only_stacks, start, start + len(data)):
            part = hide(data[low - start : high - start])
            changed[low - start : high - start] = part if deface is None else deface(low, part)
        return bytes(changed)

    kept.change(clean)
    return kept, scrubber.masked + hide.masked


def _meets(extents: Sequence[tuple[int, int]], address: int) -> bool:
    return any(start <= address < end for start, end in extents)


def _overlaps(
    extents: Iterable[tuple[int, int]], start: int, end: int
) -> Iterator[tuple[int, int]]:
    for low, high in extents:
        if low < end and start < high:
            yield max(low, start), min(high, end)


class _Defacer:
    """Takes from a stack every word that is neither a pointer nor a small number."""

    def __init__(self, process: TracedProcess) -> None:
        self._size = process.views.pointer_size
        self._order = "big" if process.views.layouts.big_endian else "little"
        self._space = process.core.memory
        self._mask = DEFACED.to_bytes(8, "little")[: self._size]

    def __call__(self, start: int, data: bytes) -> bytes:
        size, parts = self._size, []
        at = -start % size
        parts.append(bytes(at))
        while at + size <= len(data):
            word = data[at : at + size]
            parts.append(word if self._stays(word) else self._mask)
            at += size
        return b"".join(parts).ljust(len(data), b"\0")[: len(data)]

    def _stays(self, word: bytes) -> bool:
        value = int.from_bytes(word, self._order)  # type: ignore[arg-type]
        top = 1 << 8 * self._size
        if value < SMALL or value >= top - SMALL:
            return True
        return self._space.segment_at(value) is not None


# Secrets


def _argv(process: TracedProcess) -> tuple[str, ...] | None:
    try:
        return arguments(process.views, process.core)
    except VringcoreError:
        return None


def _secret_places(process: TracedProcess, argv: Sequence[str]) -> list[tuple[int, int]]:
    """Return where the arguments lie that hold a secret: they are not kept at all."""
    try:
        places = argument_places(process.views, process.core.auxv)
    except VringcoreError:
        return []
    return merge(
        [
            (place, place + len(argument.encode("utf-8", "surrogateescape")))
            for place, argument, shown in zip(places, argv, redact(argv), strict=False)
            if argument != shown
        ]
    )


def _environment(process: TracedProcess) -> list[bytes]:
    """Return the strings of the environment: looked at only to keep them out."""
    anchor = process.core.auxv.get(AT_RANDOM)
    segment = process.core.memory.segment_at(anchor) if anchor else None
    if anchor is None or segment is None:
        return []
    size = min(segment.end - anchor, MAX_ENVIRONMENT)
    found = b"".join(p.data or b"" for p in process.core.memory.scan(HostAddress(anchor), size))
    return [s for s in found.split(b"\0")[:MAX_VARIABLES] if b"=" in s]


# Notes


def _original_notes(process: TracedProcess) -> Iterator[RawNote]:
    core = process.core
    notes = core.notes()
    if notes is None:
        yield from built_notes(core)
        return
    yield from kept_notes(notes)
    if unnamed_files(core):
        yield file_note(core)


def _own_notes(
    process: TracedProcess, gathered: Gathered, left_out: tuple[str, ...], moved: Sequence[Moved]
) -> Iterator[RawNote]:
    core = process.core
    before = core.slim or SlimNote(
        of=core.kind,
        complete=not core.truncated,
        problems=tuple(str(problem) for problem in core.problems),
    )
    if before.captured_at is None and not before.captured_by:
        before = _with_time(before, core)
    note = msgspec.structs.replace(
        before,
        writer=f"vringcore {VERSION}",
        guest_ram=process.core_info.guest_ram,
        ram_files=before.ram_files or tuple((n, s.path) for n, s in process.ram_files.items()),
        arguments=None if gathered.argv is None else redact(gathered.argv),
        mapped=before.mapped or _mapped(process),
        lost=before.lost or _lost(process),
        moved=(*before.moved, *moved),
        left_out=left_out,
    )
    build, names = process.recorded.excerpt()
    yield SLIM_OWNER, slimnote.NT_SLIM, slimnote.encode(note)
    yield SLIM_OWNER, slimnote.NT_SLIM_LAYOUTS, slimnote.pack(to_json(build))
    for each in (names, *map(names_in, process.symbols.asked())):
        yield SLIM_OWNER, slimnote.NT_SLIM_NAMES, slimnote.pack(to_json(each))


def _with_time(note: SlimNote, core: ProcessImage) -> SlimNote:
    """Return the note with what the core's name says of the time, or why that is not believed."""
    taken, source = taken_at(core)
    if not isinstance(taken, Absent):
        return msgspec.structs.replace(note, captured_at=taken, captured_by=source)
    return note if taken is NOT_RECORDED else msgspec.structs.replace(note, captured_by=taken.hint)


def _left_out(gathered: Gathered, before: SlimNote | None) -> tuple[str, ...]:
    found = [*(before.left_out if before is not None else ()), *LEFT_OUT]
    if gathered.masked:
        found.append("secrets of the command line, wherever they stood")
    if gathered.redact_stacks:
        found.append("numbers on stacks")
    return tuple(dict.fromkeys(found))


def _mapped(process: TracedProcess) -> tuple[Mapped, ...]:
    rows: list[Mapped] = []
    for part in process.core.memory.ranges():
        rights = "r" + "-w"[part.writable] + "-x"[part.executable]
        if rows and rows[-1].end == part.address and rows[-1].rights == rights:
            rows[-1] = Mapped(rows[-1].start, part.address + part.size, rights)
        else:
            rows.append(Mapped(part.address, part.address + part.size, rights))
    return tuple(rows)


def _lost(process: TracedProcess) -> tuple[Lost, ...]:
    memory = process.core.memory
    rows: list[tuple[int, int, str]] = []
    for part in memory.ranges():
        if part.readable < part.size:
            tail = HostAddress(part.address + part.readable)
            rows += lost_of(memory.scan(tail, part.size - part.readable))
    return tuple(Lost(*row) for row in joined(rows))
