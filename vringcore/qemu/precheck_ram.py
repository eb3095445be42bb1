"""Is guest RAM in a core? Answered by sizes alone, without any of QEMU's types."""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.elfcore.notes import AT_RANDOM
from vringcore.errors import VringcoreError
from vringcore.model.precheck import GuestRam
from vringcore.model.values import Absent
from vringcore.qemu.commandline import FIRST_WINDOW, MAX_ARGUMENT, MAX_WINDOW, find_argv
from vringcore.qemu.ram_options import RamBlock, ram_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.elfcore.image import ProcessImage
    from vringcore.memory.space import Range

MAX_ARGUMENTS = 4096
_LIKELY = 64 << 20
"""Where the command line is lost, the largest stretch from here on is taken for RAM."""


def guest_ram(core: ProcessImage) -> tuple[GuestRam, list[RamBlock]]:
    """Return how much of guest RAM a core holds, and what the command line asks for."""
    blocks = ram_of(arguments) if (arguments := arguments_of(core)) is not None else []
    if core.slim is not None:
        state = core.slim.guest_ram.partition(" ")[0] or "unknown"
        why = f"a small core; of its original it says: {core.slim.guest_ram or 'nothing'}"
        return GuestRam(f"{state}", 0, _configured(blocks), why), blocks
    ranges = _writable(core)
    if not blocks:
        return _guessed(ranges), blocks
    there = sum(held(ranges, block.size) for block in blocks)
    wanted = sum(block.size for block in blocks)
    state = "absent" if not there else "present" if there >= wanted else "partial"
    if core.truncated and state != "present":
        return GuestRam(state, there, wanted, "the core is cut: what is behind is lost"), blocks
    sizes = ", ".join(f"{block.size >> 20} MiB" for block in blocks)
    seen = "no memory of that size holds anything" if not there else "memory of that size is there"
    files = ", ".join(block.file for block in blocks if block.file and block.shared)
    if files and state != "present":
        seen += f"; the file that backs it can be read with --ram-file: {files}"
    return GuestRam(state, there, wanted, f"the command line asks for {sizes}: {seen}"), blocks


def arguments_of(core: ProcessImage) -> list[str] | None:
    """Return argv, secrets included: never to be shown. None where the core has lost it."""
    if core.slim is not None and core.slim.arguments is not None:
        return list(core.slim.arguments)
    anchor = core.auxv.get(AT_RANDOM)
    size = core.header.elf_class // 8
    top = (anchor or 0) & -size
    window = FIRST_WINDOW
    while anchor is not None and window <= min(MAX_WINDOW, top):
        try:
            data = core.memory.read(HostAddress(top - window), window)
        except VringcoreError:
            return None
        words = unpack(f"{core.header.byteorder}{window // size}{'Q' if size == 8 else 'I'}", data)
        argv = find_argv(words, core.auxv, anchor)
        if argv is not None:
            return [_string(core, place) for place in argv[:MAX_ARGUMENTS]]
        window *= 4
    return None


def _string(core: ProcessImage, place: int) -> str:
    text = b""
    for piece in core.memory.pieces(HostAddress(place), min(MAX_ARGUMENT, (1 << 64) - place)):
        if piece.data is None:
            break
        text += piece.data
        if b"\0" in piece.data:
            break
    return text.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _writable(core: ProcessImage) -> list[Range]:
    return [r for r in core.memory.ranges() if r.writable and not r.executable]


def held(ranges: Sequence[Range], size: int) -> int:
    """Return how many bytes of a block of RAM are there, known by its size alone.

    It is the smallest range that it fits into; else a stretch of ranges that touch, of which one
    is half of it at least: RAM can be mapped in pieces, but other memory may lie next to it.
    """
    fitting = min(((r.size, r.readable) for r in ranges if r.size >= size), default=None)
    if fitting is None:
        rows = ((r.size, r.readable, r.size) for r in ranges)
        joined: list[tuple[int, int, int]] = []
        end = -1
        for known, row in zip(ranges, rows, strict=True):
            if known.address == end:
                before = joined.pop()
                row = (before[0] + row[0], before[1] + row[1], max(before[2], row[2]))
            joined.append(row)
            end = known.address + known.size
        stretches = (row[:2] for row in joined if row[0] >= size <= 2 * row[2])
        fitting = min(stretches, default=(0, 0))
    return min(size, fitting[1])


def _guessed(ranges: Sequence[Range]) -> GuestRam:
    size, there = max(((r.size, r.readable) for r in ranges), default=(0, 0))
    configured = Absent("not-in-core", None, "the command line is not in the core")
    if size < _LIKELY or not there:
        why = "the command line is not in the core, nor any large memory"
        return GuestRam("unknown", 0, configured, why)
    why = "the largest memory of the process, by its size alone: the command line is lost"
    return GuestRam("present" if there == size else "partial", there, configured, why)


def _configured(blocks: Sequence[RamBlock]) -> int | Absent:
    if blocks:
        return sum(block.size for block in blocks)
    return Absent("not-in-core", None, "the command line is not in the core")
