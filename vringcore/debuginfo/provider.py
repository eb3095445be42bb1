"""Layouts from a module's own files: its debug information, then its ELF symbols."""

from __future__ import annotations

from _thread import RLock  # as in layout.provider
from typing import TYPE_CHECKING

from msgspec import structs

from vringcore.debuginfo.damage import ours
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.find import find_alternate_file
from vringcore.errors import DebugInfoMissingError, DwarfError, VringcoreError
from vringcore.layout.bundle import Typed
from vringcore.layout.provider import NotSearched
from vringcore.layout.types import Code, SourceFrame, Variable

if TYPE_CHECKING:
    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.debuginfo.find import FoundFiles
    from vringcore.debuginfo.search import Search
    from vringcore.debuginfo.sources import Sources
    from vringcore.debuginfo.splitunits import SplitUnits
    from vringcore.debuginfo.symbols import SymbolTable
    from vringcore.layout.scopes import Scope
    from vringcore.layout.types import Symbol, Type


class DebugInfo:
    """The provider over one module's files; nothing is opened before something is asked."""

    name = "debug information"

    def __init__(self, files: FoundFiles) -> None:
        self._files = files
        self.log: list[str] = []
        self._lock = RLock()
        self._opened: dict[str, ElfFile] = {}
        self._opened_dwarf: Dwarf | None = None
        self._search: Search | None = None
        self._sources: Sources | None = None
        self._tables: list[SymbolTable] | None = None

    @ours
    def definition(self, key: str, units: tuple[str, ...]) -> Typed | None:
        """Return a type's definition; see :class:`~vringcore.layout.protocol.Provider`."""
        with self._lock:
            found = self.search().definition(key, units)
            return None if found is None else Typed(*found)

    @ours
    def variable(self, name: str, units: tuple[str, ...], function: str) -> Variable | None:
        """Return a variable, its address from the symbols where the debug information lacks it."""
        with self._lock:
            try:
                search = self.search()
            except NotSearched:
                symbol = self._only_symbol(name, function)
                return Variable(
                    name=name,
                    address=symbol.address,
                    size=symbol.size,
                    function=function,
                    thread_local=symbol.thread_local,
                )
            found = search.variable_in(units, name, function)
            if found is None and self._proved_absent(name):
                return None
            if found is None:
                found = search.variable_anywhere(name, function)
            elif found.address is None:
                found = search.complete(found, function)
            if found is None:
                return None
            address, thread_local, size = found.address, found.thread_local, 0
            if address is None:
                symbol = self._only_symbol(name, function)
                address, thread_local, size = symbol.address, symbol.thread_local, symbol.size
            return Variable(
                name=name,
                address=address,
                type=found.type,
                size=size,
                unit=found.unit,
                function=function,
                external=found.external,
                thread_local=thread_local,
            )

    @ours
    def function(self, name: str, units: tuple[str, ...]) -> Code | None:
        """Return a function that has code of its own."""
        with self._lock:
            found = self.search().function(name, units)
            if found is None:
                return None
            code, unit = found
            return Code(name, code.address, code.size, code.type, unit, code.external)

    @ours
    def enumerator(self, name: str) -> Type | None:
        """Return the enumeration that has an enumerator."""
        with self._lock:
            return self.search().enumerator(name)

    @ours
    def files_with(self, name: str, function: str) -> list[str]:
        """Return the files that have a variable or function of a name."""
        with self._lock:
            return self.search().files_with(name, function)

    @ours
    def names(self, kind: str) -> list[str]:
        """Return every name of a kind."""
        from vringcore.debuginfo.toplevel import FUNCTION, KINDS, VARIABLE

        kinds = {**KINDS, "variable": VARIABLE, "function": FUNCTION}
        with self._lock:
            return self.search().names(kinds[kind])

    @ours
    def similar(self, name: str, kind: str) -> list[str]:
        """Return names like one, without a look at all units: some may be of another kind."""
        raw = name.encode("utf-8", "surrogateescape")
        with self._lock:
            if kind == "variable":
                found = {n for table in self._symbols() for n in table.similar(name)}
                found |= {raw} if self.search().defines(name) else set()
            else:
                from vringcore.debuginfo.similar import similar_names

                found = set(similar_names(self._dwarf().strings.data, raw))
        return sorted(n for word in found if (n := word.decode("latin-1")).isidentifier())

    @ours
    def symbol(self, name: str) -> Symbol | None:
        """Return an ELF symbol by name."""
        with self._lock:
            tables = self._symbols()
            return next((s for t in tables if (s := t.find(name)) is not None), None)

    @ours
    def symbol_at(self, address: int) -> Symbol | None:
        """Return the ELF symbol around a link-time address."""
        with self._lock:
            tables = self._symbols()
            return next((s for t in tables if (s := t.at(address)) is not None), None)

    @ours
    def source_of(self, address: int) -> tuple[SourceFrame, ...] | None:
        """Return the functions, files and lines of a link-time address of code.

        The symbols tell the function where the debug information does not.
        """
        with self._lock:
            frames = self._source_frames(address)
            if frames and frames[-1].function:
                return tuple(frames)
            try:
                symbol = self.symbol_at(address)
            except NotSearched:
                if not frames:
                    raise
                return tuple(frames)
            if not frames:
                return None if symbol is None else (SourceFrame(symbol.name),)
            if symbol is not None:
                last = frames[-1]
                frames[-1] = SourceFrame(symbol.name, last.file, last.line, last.directory)
            return tuple(frames)

    @ours
    def scope_of(self, address: int, *, all_variables: bool) -> Scope | None:
        """Return the variables around a link-time address of code, None where none is known.

        :param all_variables: local ones too, not parameters alone
        """
        from vringcore.debuginfo.scopes import read_scope

        with self._lock:
            chain = self._opened_sources().chain_of(address)
            if not chain:
                return None
            scope = read_scope(chain, address, all_variables=all_variables)
            call = scope.call
            if call is None or not call.name or call.address is not None:
                return scope
            call = structs.replace(call, address=self._own_address(call.name))
            return structs.replace(scope, call=call)

    @ours
    def tail_calls_of(self, address: int) -> Scope | None:
        """Return the tail calls of the function that begins at a link-time address."""
        from vringcore.debuginfo.callsites import start_of, tail_calls
        from vringcore.layout.scopes import Scope

        with self._lock:
            chain = self._opened_sources().chain_of(address)
            if not chain or start_of(chain[0]) != address:
                return None
            found = [
                each
                if each.address is not None or not each.name
                else structs.replace(each, address=self._own_address(each.name))
                for each in tail_calls(chain[0])
            ]
            return Scope(start=address, tail_calls=tuple(found))

    def _own_address(self, name: str) -> int | None:
        """Return where the module itself has a function that a unit only declares."""
        try:
            symbol = self.symbol(name)
        except VringcoreError:
            return None
        return None if symbol is None else symbol.address

    def _opened_sources(self) -> Sources:
        """Return what tells functions by address.

        :raises NotSearched: if there is no debug information
        """
        if self._sources is None:
            dwarf = self._dwarf()
            from vringcore.debuginfo.sources import Sources

            self._sources = Sources(dwarf, self.log)
        return self._sources

    def _source_frames(self, address: int) -> list[SourceFrame]:
        try:
            sources = self._opened_sources()
        except NotSearched:
            return []
        try:
            return sources.source_of(address)
        except DwarfError as error:
            self.log.append(str(error))
            return []

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for elf in self._opened.values():
                elf.close()
            self._opened.clear()
            if self._opened_dwarf is not None:
                self._opened_dwarf.close()
            self._opened_dwarf = None
            self._search = None
            self._sources = None
            self._tables = None

    def _open(self, path: str) -> ElfFile:
        elf = self._opened.get(path)
        if elf is None:
            elf = self._opened[path] = ElfFile.open(path)
        return elf

    def search(self) -> Search:
        """Return the look-ups in the debug information, opened when first asked for.

        :raises NotSearched: if there is none
        """
        if self._search is None:
            dwarf = self._dwarf()
            from vringcore.debuginfo.search import Search

            self._search = Search(dwarf, self.log, self._symbols)
        return self._search

    def _dwarf(self) -> Dwarf:
        if self._opened_dwarf is None:
            try:
                path = self._files.debug_file()
            except DebugInfoMissingError as error:
                raise NotSearched(str(error)) from error
            from vringcore.debuginfo.dwarf import Dwarf

            self._opened_dwarf = Dwarf(self._open(path), self._alternate, split=self._split_units)
        return self._opened_dwarf

    def _split_units(self) -> SplitUnits:
        from vringcore.debuginfo.splitunits import SplitUnits

        files = self._files
        return SplitUnits([files.debug_file(), files.executable], files.debug_dirs, files.sysroot)

    def _alternate(self, elf: ElfFile) -> Dwarf:
        from vringcore.debuginfo.dwarf import Dwarf

        found = find_alternate_file(elf, debug_dirs=self._files.debug_dirs)
        if not found.path:
            raise DwarfError(
                "dwz's common file of the debug information was not found",
                where=elf.path,
                seen="; ".join(found.log),
                hint="install the debug package whole, or name its directory (--debug-dir)",
            )
        return Dwarf(self._open(found.path))

    def _symbols(self) -> list[SymbolTable]:
        """The complete table if there is one: the module's own is smaller once it was stripped."""
        if self._tables is None:
            from vringcore.debuginfo.symbols import SymbolTable

            tables = []
            if self._files.executable:
                own = SymbolTable.of(self._open(self._files.executable))
                tables += [own] if own is not None else []
            if not any(t.complete for t in tables):
                tables[:0] = self._split_table() or self._packed_table()
            if not tables:
                raise NotSearched("no symbol table", seen=self._files.executable or "no file")
            self._tables = tables
        return self._tables

    def _split_table(self) -> list[SymbolTable]:
        try:
            path = self._files.debug_file()
        except DebugInfoMissingError:
            return []
        from vringcore.debuginfo.symbols import SymbolTable

        table = SymbolTable.of(self._open(path))
        return [table] if table is not None and table.complete else []

    def _packed_table(self) -> list[SymbolTable]:
        """Return the functions that distributions leave in a stripped file, xz-compressed."""
        if not self._files.executable:
            return []
        from vringcore.debuginfo.minidebug import packed_symbols

        try:
            elf = packed_symbols(self._open(self._files.executable))
        except VringcoreError as error:
            self.log.append(str(error))
            return []
        if elf is None:
            return []
        from vringcore.debuginfo.symbols import SymbolTable

        self._opened[".gnu_debugdata"] = elf
        table = SymbolTable.of(elf)
        if table is None:
            return []
        table.complete = False  # It has functions alone, and not those of .dynsym.
        return [table]

    def _proved_absent(self, name: str) -> bool:
        """Tell whether the complete symbol table has no variable of that name, renamed or not."""
        try:
            tables = [t for t in self._symbols() if t.complete]
        except VringcoreError:
            return False
        return bool(tables) and not any(t.may_have(name) for t in tables)

    def _candidates(self, name: str, function: str) -> list[Symbol]:
        found = []
        for table in self._symbols():
            # clang calls a function's static variable ``function.name``, GCC ``name.7``.
            found = table.find_all(f"{function}.{name}" if function else name)
            found = found or table.find_static(name) or table.find_all(name)
            if found:
                break
        return found

    def _only_symbol(self, name: str, function: str) -> Symbol:
        """Return the one symbol that a variable can be.

        With link-time optimisation only the symbols know where variables came to lie; without
        debug information they are all there is.

        :raises NotSearched: if there is none, or more than one
        """
        found = self._candidates(name, function)
        if len({s.address for s in found}) != 1:
            raise NotSearched(
                f"nothing tells where variable {name} lies",
                seen=f"{len(found)} symbols of that name",
                expected="one",
            )
        return found[0]
