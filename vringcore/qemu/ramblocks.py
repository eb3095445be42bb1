"""The blocks of guest RAM in the QEMU process, and holes in its memory that are one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.segments import HINTS
from vringcore.qemu.absence import attempt
from vringcore.qemu.structs import RAMBlock, RAMList
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.view.views import Views

MAX_RAM_BLOCKS = 1 << 16

NOT_DUMPED_HINT = (
    "guest RAM is in a core of a QEMU started with `-machine dump-guest-core=on` (libvirt: "
    "`<memory dumpCore='on'>`), or in one by gcore after `set dump-excluded-mappings on`"
)


def ram_blocks(views: Views) -> Iterator[RAMBlock]:
    """Yield every RAMBlock of ``ram_list`` (system/physmem.c); largest first, as QEMU sorts them.

    :raises CorruptDataError, LimitError, MemoryFault: where the list ends early
    """
    ram_list = views.at(RAMList, views.address_of("ram_list"))
    return views.elements(ram_list.blocks, RAMBlock, "next", limit=MAX_RAM_BLOCKS)


class RamGaps:
    """Says of a hole in the process's memory that it is guest RAM, where it is.

    gcore writes no segment at all for memory that QEMU excluded from cores, so to the core it
    looks like memory that was never mapped; QEMU's RAM blocks know better. They are read when the
    first hole is met.
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self._blocks: list[tuple[int, int]] | None = None

    def __call__(self, gap: Gap) -> Gap:
        """Return the gap as it came, or as NOT_DUMPED with what would have kept it."""
        if gap.kind not in (GapKind.UNMAPPED, GapKind.NOT_DUMPED, GapKind.FILE_NEEDED):
            return gap
        if self._blocks is None:
            self._blocks = []  # while they are read, a hole met on the way is just a hole
            blocks, _error = collect(ram_blocks(self._views))
            found = [attempt(lambda b=b: (b.host, b.host + b.max_length)) for b in blocks]  # type: ignore[misc]
            self._blocks = [place for place in found if isinstance(place, tuple)]
        if any(start <= gap.address < end for start, end in self._blocks):
            if gap.file:
                hint = f"guest RAM in {gap.file}: give that file, or a copy, with --ram-file PATH"
                return msgspec.structs.replace(gap, hint=hint)
            known = gap.hint not in ("", HINTS.get(gap.kind))
            hint = gap.hint if known else NOT_DUMPED_HINT
            return Gap(GapKind.NOT_DUMPED, gap.address, gap.size, hint)
        return gap
