"""The ELF symbol table, by name and by address, without decoding all of it (gABI, chapter 4)."""

from __future__ import annotations

import struct
import sys
from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING

from vringcore.debuginfo.elf import SHF_ALLOC, SHF_TLS, SHT_DYNSYM, SHT_SYMTAB
from vringcore.debuginfo.occurrences import occurrences
from vringcore.errors import ElfFormatError
from vringcore.layout.types import Symbol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.elf import ElfFile, Section
    from vringcore.elfcore.headers import SectionHeader

_STT_FUNC = 2
_STT_SECTION = 3
_STT_FILE = 4
_STT_TLS = 6
_STT_GNU_IFUNC = 10
_STB_LOCAL = 0
_STB_WEAK = 2

_CODE = (_STT_FUNC, _STT_GNU_IFUNC)

_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"

_LOOK_BACK = 8
"""Symbols before an address that are tried for a size that covers it."""

_USUAL_NAME = 128
"""Bytes in which a name nearly always ends."""

MAX_SPELLINGS = 64
"""Names with a name in them that are looked at to tell which symbols are called so."""


class Namesake:
    """A symbol that a thing of some name can have.

    ``exact`` is False where a compiler renamed it; ``code`` tells functions from variables.
    """

    __slots__ = ("code", "exact", "row", "symbol")

    def __init__(self, symbol: Symbol, row: int, *, exact: bool, code: bool) -> None:
        self.symbol = symbol
        self.row = row
        self.exact = exact
        self.code = code


class SymbolTable:
    """``.symtab`` of a file, or ``.dynsym`` where that is all there is.

    ``complete`` tells which: only a complete table proves that something is not in the program.
    The file must stay open: names are read when they are asked for.

    :raises ElfFormatError: if the table leaves the file; the look-ups likewise for its strings
    """

    def __init__(self, elf: ElfFile, table: Section, strings: Section) -> None:
        header = elf.header
        order = header.byteorder
        self.complete = table.header.type == SHT_SYMTAB
        # st_name, st_info, st_other, st_shndx, st_value, st_size, in the order of the class.
        wide = header.elf_class == 64
        self._entry = struct.Struct(order + ("IBBHQQ" if wide else "IIIBBH"))
        self._wide = wide
        self._value = struct.Struct(order + ("8xQ8x" if wide else "4xI8x"))
        self._word = struct.Struct(order + "I")
        data = table.data
        self._data = data[: len(data) - len(data) % self._entry.size]
        self._names = strings
        self._sections = [h for h in elf.headers if h.flags & SHF_ALLOC and not h.flags & SHF_TLS]
        self._rows: dict[int, list[int]] = {}
        self._values: list[int] | None = None
        # All local symbols come first, each file's behind the symbol that names the file.
        self._locals = min(table.header.info, len(self._data) // self._entry.size)

    @classmethod
    def of(cls, elf: ElfFile) -> SymbolTable | None:
        """Return the file's fullest symbol table, None if it has none with contents."""
        for kind in (SHT_SYMTAB, SHT_DYNSYM):
            for header in elf.headers:
                table = elf.section(header.name) if header.type == kind else None
                if table is None or table.header is not header:
                    continue
                if header.link >= len(elf.headers):
                    raise ElfFormatError(
                        "a symbol table without a string table",
                        where=elf.path,
                        seen=f"section number {header.link}",
                    )
                strings = elf.section(elf.headers[header.link].name)
                if strings is not None:
                    return cls(elf, table, strings)
        return None

    def find(self, name: str) -> Symbol | None:
        """Return the defined symbol of that name; a global one before a weak, a local one last."""
        found = list(self._named(name.encode("utf-8", "surrogateescape")))
        return min(found, key=_rank)[1] if found else None

    def find_all(self, name: str) -> list[Symbol]:
        """Return every defined symbol of that name."""
        return [s for _, s in self._named(name.encode("utf-8", "surrogateescape"))]

    def find_static(self, name: str) -> list[Symbol]:
        """Return symbols of a static variable of that name as compilers rename them: ``name.7``.

        GCC numbers function-static variables, and link-time optimisation adds ``.lto_priv.N``.
        """
        strings = self._strings
        prefix = b"\0" + name.encode("utf-8", "surrogateescape") + b"."
        found = []
        at = strings.find(prefix)
        while at >= 0:
            full = strings[at + 1 : strings.find(0, at + 1)]
            suffix = full[len(prefix) - 1 :]
            if suffix.replace(b".lto_priv", b"").replace(b".", b"").isdigit():
                found += [s for _, s in self._at_name(at + 1)]
            at = strings.find(prefix, at + 1)
        return found

    def namesakes(self, name: str) -> list[Namesake] | None:
        """Return every symbol that a variable or function of that name can have.

        ``name``, what compilers make of it (``name.7``, ``name.isra.0``), and clang's
        ``function.name``. None where too many symbols have names like it.
        """
        import re

        strings = self._strings
        found: list[Namesake] = []
        wanted = re.escape(name.encode("utf-8", "surrogateescape"))
        for number, hit in enumerate(re.finditer(wanted + rb"[.\0]", strings)):
            if number == MAX_SPELLINGS:
                return None
            at = hit.start()
            whole = strings[hit.end() - 1] == 0
            # A linker lets a name be the tail of a longer one: `big` lies in `too_big`.
            found += self._namesakes_at(at, exact=whole)
            if strings[at - 1 : at] == b".":
                found += self._namesakes_at(strings.rfind(b"\0", 0, at) + 1, exact=False)
        return found

    def _namesakes_at(self, offset: int, *, exact: bool) -> Iterator[Namesake]:
        for row, info, symbol in self._rows_at(offset):
            yield Namesake(symbol, row, exact=exact, code=info & 15 in _CODE)

    def similar(self, name: str) -> list[bytes]:
        """Return names like one, of symbols of any kind."""
        from vringcore.debuginfo.similar import similar_names

        names = struct.Struct(f"{self._word.format}{self._entry.size - self._word.size}x")
        starts = {start for (start,) in names.iter_unpack(self._data)}
        return similar_names(self._strings, name.encode("utf-8", "surrogateescape"), starts)

    def may_have(self, name: str) -> bool:
        """Tell whether any variable is called so, or as compilers rename a static one.

        False proves that there is no such variable, if the table is complete.
        """
        found = self.namesakes(name)
        return found is None or not all(n.code for n in found)

    def origin(self, found: Namesake) -> tuple[str, str]:
        """Return the names of the source files between which a symbol was linked.

        Both are the same for a local symbol, whose file the table names. A global one lies between
        local ones, since the linker puts the parts of each section in the order of its input. ""
        where nothing is told.
        """
        if found.row < self._locals:
            file = self._file_before(found.row)
            return file, file
        address = found.symbol.address
        section = self._section_of(address)
        first = self._infos.find(_STT_FILE)
        if section is None or first < 0:
            return "", ""
        values = self._all_values()[first : self._locals]
        low, high = section.addr, section.addr + section.size
        below = max((v for v in values if low <= v <= address), default=None)
        above = min((v for v in values if address < v < high), default=None)
        return tuple(  # type: ignore[return-value]
            "" if v is None else self._file_before(first + values.index(v)) for v in (below, above)
        )

    @cached_property
    def _infos(self) -> bytes:
        """``st_info`` of every entry."""
        return self._data[4 if self._wide else 12 :: self._entry.size]

    def _file_before(self, row: int) -> str:
        row = self._infos.rfind(_STT_FILE, 0, row)
        return self._decode(row * self._entry.size)[2].name if row >= 0 else ""

    def at(self, address: int) -> Symbol | None:
        """Return the symbol whose bytes hold a link-time address.

        Of several the one that starts last; of several that start there a global one before a weak
        one, a local one last, and then the first by name.
        """
        section = self._section_of(address)
        if section is None:
            return None
        if section.index not in self._rows:
            # Most pointers into a program are to the start of a function: a search for the very
            # address is cheaper than to sort the section's symbols.
            exact = [c for c in self._starting(address) if c[1].size]
            if exact:
                return min(exact, key=_rank)[1]
        return self._covering(section, address)

    def _covering(self, section: SectionHeader, address: int) -> Symbol | None:
        rows, values = self._section_rows(section), self._all_values()
        number = bisect_right(rows, address, key=values.__getitem__)
        best: tuple[int, Symbol] | None = None
        for row in reversed(rows[max(0, number - _LOOK_BACK) : number]):
            if best is not None and best[1].address != values[row]:
                break
            found = self._decode_defined(row * self._entry.size)
            if found is not None and found[1].address + found[1].size > address:
                best = found if best is None else min(best, found, key=_rank)
        return None if best is None else best[1]

    def _named(self, name: bytes) -> Iterator[tuple[int, Symbol]]:
        strings, pattern = self._strings, name + b"\0"
        if not name:
            return
        # A name may be the tail of a longer one, so every hit counts.
        at = strings.find(pattern)
        while at >= 0:
            yield from self._at_name(at)
            at = strings.find(pattern, at + 1)

    def _at_name(self, offset: int) -> Iterator[tuple[int, Symbol]]:
        for _, info, symbol in self._rows_at(offset):
            yield info >> 4, symbol

    def _rows_at(self, offset: int) -> Iterator[tuple[int, int, Symbol]]:
        """Yield row, ``st_info`` and symbol of what is defined under the name at an offset."""
        size = self._entry.size
        # A hit across two entries may overlap the one that is an entry's name.
        for at in occurrences(self._word.pack(offset), self._data):
            if at % size == 0:
                info, section, symbol = self._decode(at)
                if section and info & 15 not in (_STT_SECTION, _STT_FILE):
                    yield at // size, info, symbol

    def _starting(self, address: int) -> Iterator[tuple[int, Symbol]]:
        """Yield binding and symbol of what starts at an address, found by its bytes."""
        word = self._entry.format[0] + ("Q" if self._wide else "I")
        size, place = self._entry.size, 8 if self._wide else 4
        for at in occurrences(struct.pack(word, address), self._data):
            row, rest = divmod(at - place, size)
            found = None if rest else self._decode_defined(row * size)
            if found is not None:
                yield found

    def _decode_defined(self, at: int) -> tuple[int, Symbol] | None:
        """Return a symbol's binding and the symbol, None if it names no address."""
        info, section, symbol = self._decode(at)
        if not section or info & 15 in (_STT_SECTION, _STT_FILE, _STT_TLS):
            return None
        return info >> 4, symbol

    def _decode(self, at: int) -> tuple[int, int, Symbol]:
        if self._wide:
            name, info, _, section, value, size = self._entry.unpack_from(self._data, at)
        else:
            name, value, size, info, _, section = self._entry.unpack_from(self._data, at)
        return info, section, Symbol(self._name(name), value, size, info & 15 == _STT_TLS)

    @property
    def _strings(self) -> bytes:
        """All names."""
        return self._names.data

    def _name(self, offset: int) -> str:
        """Return one name, for which the section is not read whole."""
        name, end, _ = self._names.read(offset, _USUAL_NAME).partition(b"\0")
        if not end:
            stop = self._strings.find(0, offset)
            name = self._strings[offset : max(stop, offset)]
        return name.decode("utf-8", "backslashreplace")

    def _section_of(self, address: int) -> SectionHeader | None:
        return next((s for s in self._sections if s.addr <= address < s.addr + s.size), None)

    def _section_rows(self, section: SectionHeader) -> list[int]:
        """Return the numbers of the entries for a section's symbols, sorted by address."""
        rows = self._rows.get(section.index)
        if rows is None:
            low, high, values = section.addr, section.addr + section.size, self._all_values()
            rows = [row for row, value in enumerate(values) if low <= value < high]
            rows.sort(key=values.__getitem__)
            self._rows[section.index] = rows
        return rows

    def _all_values(self) -> list[int]:
        """Return ``st_value`` of every entry of the table."""
        if self._values is None:
            if self._wide and self._entry.format[0] == _NATIVE_ORDER:
                # An entry is three words, of which st_value is the second: no unpacking needed.
                self._values = memoryview(self._data).cast("Q")[1::3].tolist()
            else:
                self._values = [value for (value,) in self._value.iter_unpack(self._data)]
        return self._values


def _rank(found: tuple[int, Symbol]) -> tuple[int, str]:
    binding = found[0]
    return 2 if binding == _STB_LOCAL else 1 if binding == _STB_WEAK else 0, found[1].name
