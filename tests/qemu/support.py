"""What the tests of the QEMU layer share: a memory made by hand, and real cores opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cases import CoreCase, iter_cores
from vringcore.addresses import HostAddress, end_of
from vringcore.layout.bundle import Bundle
from vringcore.layout.provider import Layouts
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.space import AddressSpace, Piece, Range
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.qemu.process import Process


def is_whole_process(core: CoreCase) -> bool:
    """Tell whether gdb has read all of a core of a QEMU."""
    return bool(core.gdb and core.gdb.get("flat_view"))


CORES = [core for core in iter_cores() if is_whole_process(core)]
CORE_PARAMETERS: list[Any] = CORES or [
    pytest.param(None, marks=pytest.mark.skip("no cores: run `python -m tests.lab make 7.2`"))
]


def core_id(core: CoreCase | None) -> str:
    """Name a core in test ids."""
    return core.name if core else "none"


class Image(AddressSpace[HostAddress]):
    """Memory by address, as a dict of blocks; what lies between is a gap."""

    name = "built memory"

    def __init__(self, blocks: dict[int, bytes], gap: GapKind = GapKind.UNMAPPED) -> None:
        self.blocks = dict(sorted(blocks.items()))
        self.gap = gap
        self.bytes_read = 0

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        place, end = int(address), end_of(address, size)
        for start, data in self.blocks.items():
            if start + len(data) <= place or start >= end:
                continue
            if place < start:
                yield self._hole(place, start)
                place = start
            part = data[place - start : end - start]
            self.bytes_read += len(part)
            yield Piece(place, len(part), part, None)
            place += len(part)
        if place < end:
            yield self._hole(place, end)

    def ranges(self) -> Sequence[Range]:
        return [Range(start, len(data), len(data)) for start, data in self.blocks.items()]

    def _hole(self, start: int, end: int) -> Piece:
        return Piece(start, end - start, None, Gap(self.gap, start, end - start))


class NoSymbols:
    """A process without names."""

    def lookup(self, address: int) -> tuple[str, int] | None:
        return None


def views_of(space: Image, *, big_endian: bool = False, pointer_size: int = 8) -> Views:
    """Return views over built memory, of a build of which nothing is known."""
    bundle = Bundle(big_endian=big_endian, pointer_size=pointer_size)
    return Views(space, Layouts(bundle), 0, NoSymbols())


def open_lab(core: CoreCase) -> Process:
    """Open a lab core with its executable; nothing is cached, in memory or on disk."""
    return core.open_process()
