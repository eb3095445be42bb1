"""Names for addresses of every module of a process, its shared libraries among them.

A library's file is opened when an address inside it is asked about, and only if it is the build
that the core ran: the core tells its build-id, so a name alone is not believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import VringcoreError
from vringcore.qemu.symbols import ModuleSymbols

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.debuginfo.provider import DebugInfo
    from vringcore.elfcore.modules import Module
    from vringcore.layout.types import SourceFrame
    from vringcore.qemu.process import Process


class Place(msgspec.Struct, frozen=True):
    """Where an address lies: symbol and offset, section, and the module's file."""

    symbol: str
    offset: int
    section: str
    path: str

    def __str__(self) -> str:
        offset = f" + {self.offset}" if self.offset else ""
        return f"{self.symbol}{offset} in section {self.section} of {self.path}"


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
        self._libraries: dict[str, tuple[DebugInfo, int, str] | None] = {}

    def lookup(self, address: int) -> tuple[str, int] | None:
        """Return the symbol whose size covers a run-time address, and the offset into it."""
        found = self._process.views.symbols.lookup(address)
        if found is not None:
            return found
        library = self._library_at(address)
        if library is None:
            return None
        debug, bias, _path = library
        try:
            symbol = debug.symbol_at(address - bias)
        except VringcoreError:
            return None  # A library without symbols has no names to give.
        return None if symbol is None else (symbol.name, address - bias - symbol.address)

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
        debug, bias, _path = library
        try:
            return debug.source_of(address - bias) or ()
        except VringcoreError:
            return ()  # A library without symbols has no names to give.

    def place(self, address: int) -> Place | None:
        """Return what gdb's ``info symbol`` tells of an address, None if it lies in no symbol."""
        found = self.lookup(address)
        if found is None:
            return None
        library = self._library_at(address)
        if library is None:
            path, bias = self._program()
        else:
            _debug, bias, path = library
        return Place(*found, _section_at(path, address - bias), path)

    def file_of(self, module: Module) -> str:
        """Return the file of a shared library on this machine, of the very build; "" if none is."""
        library = self._library(module)
        return "" if library is None else library[2]

    def close(self) -> None:
        """Close the libraries' files."""
        for library in self._libraries.values():
            if library is not None:
                library[0].close()
        self._libraries.clear()

    def _program(self) -> tuple[str, int]:
        files = self._process.files
        executable = files.executable
        path = executable.source.path if executable is not None else ""
        return path, files.bias

    def _library_at(self, address: int) -> tuple[DebugInfo, int, str] | None:
        module = self._process.core.module_at(address)
        return None if module is None or module.is_executable else self._library(module)

    def _library(self, module: Module) -> tuple[DebugInfo, int, str] | None:
        if module.path not in self._libraries:
            self._libraries[module.path] = self._open(module)
        return self._libraries[module.path]

    def _open(self, module: Module) -> tuple[DebugInfo, int, str] | None:
        from vringcore.debuginfo.find import find_files
        from vringcore.debuginfo.provider import DebugInfo

        if not module.build_id or module.load_bias is None:
            return None
        found = find_files(
            module.build_id, module.path, debug_dirs=self._debug_dirs, sysroot=self._sysroot
        )
        if not found.executable:
            return None
        return DebugInfo(found), module.load_bias, found.executable


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
