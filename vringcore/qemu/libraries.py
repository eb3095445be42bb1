"""Names for addresses of every module of a process, its shared libraries among them.

A library's file is opened when an address inside it is asked about, and only if it is the build
that the core ran: the core tells its build-id, so a name alone is not believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.qemu.symbols import ModuleSymbols

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.debuginfo.provider import DebugInfo
    from vringcore.elfcore.modules import Module
    from vringcore.layout.bundle import Bundle
    from vringcore.layout.provider import Layouts
    from vringcore.layout.scopes import Scope
    from vringcore.layout.types import SourceFrame
    from vringcore.qemu.process import Process


class Place(msgspec.Struct, frozen=True):
    """Where an address lies: symbol and offset, section, and the module's file."""

    symbol: str
    offset: int
    section: str
    path: str

    def __str__(self) -> str:
        """Say it as gdb does; without the file, as on a slim core, its section is not known."""
        offset = f" + {self.offset}" if self.offset else ""
        section = f" in section {self.section}" if self.section else ""
        path = f" of {self.path}" if self.path else ""
        return f"{self.symbol}{offset}{section}{path}"


class _Library(msgspec.Struct, frozen=True):
    """What is known of a library.

    ``path`` is its file on this machine; if only a slim core tells of it "", and ``debug`` None.
    """

    layouts: Layouts
    bias: int
    path: str
    debug: DebugInfo | None


class ProcessSymbols:
    """Symbols of the program and of the shared libraries whose files are at hand.

    Close it.

    :param debug_dirs: directories with ``.build-id`` trees, as for the program itself
    :param sysroot: where the paths that the core names are looked up
    """

    def __init__(
        self, process: Process, *, debug_dirs: Sequence[str] = (), sysroot: str | None = None
    ) -> None:
        self._process = process
        self._debug_dirs = tuple(debug_dirs)
        self._sysroot = sysroot
        self._libraries: dict[str, _Library | None] = {}

    def lookup(self, address: int) -> tuple[str, int] | None:
        """Return the symbol whose size covers a run-time address, and the offset into it."""
        found = self._process.views.symbols.lookup(address)
        if found is not None:
            return found
        library = self._library_at(address)
        if library is None:
            return None
        symbol = library.layouts.symbol_at(address - library.bias)
        return None if symbol is None else (symbol.name, address - library.bias - symbol.address)

    def source_of(self, address: int) -> tuple[SourceFrame, ...]:
        """Return the functions of a run-time address of code, with file and line.

        The innermost inlined function comes first; see
        :meth:`~vringcore.layout.provider.Layouts.source_of`. Of a return address ask for the byte
        before it. Empty if nothing is known.
        """
        library = self._library_at(address)
        if library is None:
            symbols = self._process.views.symbols
            return symbols.source_of(address) if isinstance(symbols, ModuleSymbols) else ()
        return library.layouts.source_of(address - library.bias)

    def scope_of(self, address: int, *, all_variables: bool = False) -> tuple[Scope, int] | None:
        """Return the variables around a run-time address of code, and its module's bias.

        None if nothing is known; see :meth:`~vringcore.layout.provider.Layouts.scope_of`.
        """
        library = self._library_at(address)
        if library is None:
            symbols = self._process.views.symbols
            if not isinstance(symbols, ModuleSymbols):
                return None
            return symbols.scope_of(address, all_variables=all_variables)
        bias = library.bias
        scope = library.layouts.scope_of(address - bias, all_variables=all_variables)
        return None if scope is None else (scope, bias)

    def tail_calls_of(self, address: int) -> tuple[Scope, int] | None:
        """Return the tail calls of the function that begins at a run-time address, and the bias.

        None if nothing is known; see :meth:`~vringcore.layout.provider.Layouts.tail_calls_of`.
        """
        library = self._library_at(address)
        if library is None:
            symbols = self._process.views.symbols
            return symbols.tail_calls_of(address) if isinstance(symbols, ModuleSymbols) else None
        scope = library.layouts.tail_calls_of(address - library.bias)
        return None if scope is None else (scope, library.bias)

    def address_of(self, name: str, near: int) -> int | None:
        """Return where a symbol lies, of the module that has an address; None if it has none."""
        library = self._library_at(near)
        if library is None:
            symbols = self._process.views.symbols
            return symbols.address_of(name, near) if isinstance(symbols, ModuleSymbols) else None
        symbol = library.layouts.find_symbol(name)
        return None if symbol is None else symbol.address + library.bias

    def place(self, address: int) -> Place | None:
        """Return what gdb's ``info symbol`` tells of an address, None if it lies in no symbol."""
        found = self.lookup(address)
        if found is None:
            return None
        library = self._library_at(address)
        if library is None:
            path, bias = self._program()
        else:
            bias, path = library.bias, library.path
        return Place(*found, _section_at(path, address - bias), path)

    def file_of(self, module: Module) -> str:
        """Return the file of a shared library on this machine, of the very build; "" if none is."""
        library = self._library(module)
        return "" if library is None else library.path

    def asked(self) -> list[Bundle]:
        """Return what was asked of each library, and the answers, by build-id."""
        found = {each.layouts.build_id: each.layouts.bundle for each in self._known()}
        return [found[build_id] for build_id in sorted(found)]

    def close(self) -> None:
        """Close the libraries' files."""
        for library in self._known():
            if library.debug is not None:
                library.debug.close()
        self._libraries.clear()

    def _known(self) -> Iterator[_Library]:
        return (each for each in self._libraries.values() if each is not None)

    def _program(self) -> tuple[str, int]:
        files = self._process.files
        executable = files.executable
        path = executable.source.path if executable is not None else ""
        return path, files.bias

    def _library_at(self, address: int) -> _Library | None:
        module = self._process.core.module_at(address)
        return None if module is None or module.is_executable else self._library(module)

    def _library(self, module: Module) -> _Library | None:
        if module.path not in self._libraries:
            self._libraries[module.path] = self._open(module)
        return self._libraries[module.path]

    def _open(self, module: Module) -> _Library | None:
        from vringcore.debuginfo.find import find_files
        from vringcore.debuginfo.provider import DebugInfo
        from vringcore.layout.bundle import Bundle
        from vringcore.layout.provider import Layouts

        if not module.build_id or module.load_bias is None:
            return None
        found = find_files(
            module.build_id, module.path, debug_dirs=self._debug_dirs, sysroot=self._sysroot
        )
        brought = self._process.files.brought.get(module.build_id)
        if not found.executable and brought is None:
            return None
        debug = DebugInfo(found) if found.executable else None
        bundle = brought or Bundle(build_id=module.build_id, module=module.path)
        layouts = Layouts(bundle, [debug] if debug is not None else [])
        return _Library(layouts, module.load_bias, found.executable, debug)


def _section_at(path: str, address: int) -> str:
    """Return the name of the section that a link-time address lies in, "" if none does."""
    from vringcore.debuginfo.elf import SHF_ALLOC, ElfFile

    if not path:
        return ""
    elf = ElfFile.open(path)
    try:
        sections = (h for h in elf.headers if h.flags & SHF_ALLOC and h.size)
        return next((h.name for h in sections if h.addr <= address < h.addr + h.size), "")
    finally:
        elf.close()
