"""Which ELF image an address of code lies in, and that image's unwind tables."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from vringcore.elfcore.headers import PF_X, PT_LOAD
from vringcore.elfcore.modules import Module
from vringcore.elfcore.notes import AT_SYSINFO_EHDR, FileMapping
from vringcore.errors import VringcoreError
from vringcore.unwind.ehframe import PT_GNU_EH_FRAME, UnwindTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vringcore.memory.segments import SegmentSpace
    from vringcore.memory.space import HostSpace
    from vringcore.unwind.ehframe import FunctionEntry
    from vringcore.unwind.generated import GeneratedCode

Extent = tuple[int, int]


class Image:
    """One module as unwinding sees it. What must be read is read when first asked for.

    :param order: of bytes, as :mod:`struct` has it
    :ivar problem: why its unwind tables cannot be used, "" if they can or were not needed yet
    """

    def __init__(self, module: Module, space: HostSpace, order: str = "<") -> None:
        self.module = module
        self._order = order
        self.problem = ""
        self._space = space
        self._table: UnwindTable | None = None
        self._entries: dict[int, FunctionEntry | None] = {}
        self._code: list[Extent] | None = None

    @property
    def code(self) -> list[Extent]:
        """Its executable segments at run time; all of it where its headers are not in the core."""
        if self._code is None:
            bias = self.module.load_bias
            if bias is None:
                self._code = [(m.start, m.end) for m in self.module.mappings]
            else:
                self._code = [
                    (p.vaddr + bias, p.vaddr + bias + p.memsz)
                    for p in self.module.program_headers
                    if p.type == PT_LOAD and p.flags & PF_X
                ]
        return self._code

    def entry_at(self, address: int) -> FunctionEntry | None:
        """Return the unwind entry of the function around an address, None if there is none.

        :raises DwarfError: if the tables are damaged there
        :raises MemoryFault: if the entry is neither in the core nor in a file at hand
        """
        try:
            return self._entries[address]
        except KeyError:
            table = self._open()
            found = None if table is None else table.entry_at(address)
            self._entries[address] = found
            return found

    def _open(self) -> UnwindTable | None:
        if self._table is None and not self.problem:
            bias = self.module.load_bias
            header = next(
                (p for p in self.module.program_headers if p.type == PT_GNU_EH_FRAME), None
            )
            if bias is None or header is None:
                self.problem = (
                    "its headers are not in the core" if bias is None else "it has no unwind tables"
                )
                return None
            try:
                self._table = UnwindTable(self._space, header.vaddr + bias, self._order)
            except VringcoreError as error:
                self.problem = str(error)
        return self._table


class Images:
    """The modules of a process by address.

    :param space: the process's memory, for the tables
    :param order: of bytes, as :mod:`struct` has it
    :ivar generated: gives what is known of code that lies in no file
    """

    def __init__(self, space: HostSpace, modules: Iterable[Module], order: str = "<") -> None:
        self._space = space
        rows = sorted(
            (
                (m.start, m.end, Image(module, space, order))
                for module in modules
                for m in module.mappings
            ),
            key=lambda row: row[0],
        )
        images: dict[int, Image] = {}
        self._rows = [(start, end, images.setdefault(id(i.module), i)) for start, end, i in rows]
        self._starts = [start for start, _, _ in self._rows]
        self.generated: Callable[[], Iterable[GeneratedCode]] = tuple
        self._executable: list[Extent] | None = None
        self._executable_starts: list[int] = []

    def at(self, address: int) -> Image | None:
        """Return the image that an address lies in."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._rows[index][1]:
            return None
        return self._rows[index][2]

    def entry_at(self, address: int) -> FunctionEntry | None:
        """Return the unwind entry of the function around an address; errors as Image.entry_at."""
        image = self.at(address)
        if image is not None:
            return image.entry_at(address)
        found = (code.entry_at(address) for code in self.generated())
        return next((entry for entry in found if entry is not None), None)

    def is_code(self, address: int) -> bool:
        """Tell whether an address may be executed, generated code included."""
        image = self.at(address)
        if image is not None and any(start <= address < end for start, end in image.code):
            return True
        if self._executable is None:
            self._executable = [
                (r.address, r.address + r.size) for r in self._space.ranges() if r.executable
            ]
            self._executable_starts = [start for start, _ in self._executable]
        index = bisect_right(self._executable_starts, address) - 1
        return index >= 0 and address < self._executable[index][1]


def vdso(auxv: Mapping[int, int], memory: SegmentSpace) -> Module | None:
    """Return the image that the kernel gives each process, if the core's notes tell where it is.

    It has no file, so NT_FILE does not name it; the core holds it itself.
    """
    start = auxv.get(AT_SYSINFO_EHDR, 0)
    segment = memory.segment_at(start) if start else None
    if segment is None:
        return None
    return Module("[vdso]", [FileMapping(start, segment.end, 0, "[vdso]")], memory)
