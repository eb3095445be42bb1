"""Names for addresses of the process."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vringcore.layout.provider import Layouts
    from vringcore.layout.scopes import Scope
    from vringcore.layout.types import SourceFrame


class ModuleSymbols:
    """ELF symbols by run-time address, over the modules whose files are at hand."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, int, Layouts]] = []
        self._starts: list[int] = []
        self._known: dict[int, tuple[str, int] | None] = {}

    def add(self, start: int, end: int, bias: int, layouts: Layouts) -> None:
        """Add a module mapped at ``[start, end)``.

        :param bias: run-time minus link-time address
        """
        self._ranges.append((start, end, bias, layouts))
        self._ranges.sort(key=lambda row: row[0])
        self._starts = [row[0] for row in self._ranges]

    def source_of(self, address: int) -> tuple[SourceFrame, ...]:
        """Return functions, files and lines of an address; see :meth:`Layouts.source_of`."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._ranges[index][1]:
            return ()
        _start, _end, bias, layouts = self._ranges[index]
        return layouts.source_of(address - bias)

    def scope_of(self, address: int, *, all_variables: bool = False) -> tuple[Scope, int] | None:
        """Return the variables around an address of code, and its module's bias."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._ranges[index][1]:
            return None
        _start, _end, bias, layouts = self._ranges[index]
        scope = layouts.scope_of(address - bias, all_variables=all_variables)
        return None if scope is None else (scope, bias)

    def tail_calls_of(self, address: int) -> tuple[Scope, int] | None:
        """Return the tail calls of the function that begins at an address, and the bias."""
        found = self._module(address)
        if found is None:
            return None
        bias, layouts = found
        scope = layouts.tail_calls_of(address - bias)
        return None if scope is None else (scope, bias)

    def address_of(self, name: str, near: int) -> int | None:
        """Return where a symbol lies, of the module that has an address; None if it has none."""
        found = self._module(near)
        symbol = None if found is None else found[1].find_symbol(name)
        return None if found is None or symbol is None else symbol.address + found[0]

    def _module(self, address: int) -> tuple[int, Layouts] | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._ranges[index][1]:
            return None
        return self._ranges[index][2:]

    def lookup(self, address: int) -> tuple[str, int] | None:
        """Return the symbol whose ``st_size`` covers the address, and the offset into it."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._ranges[index][1]:
            return None
        try:
            return self._known[address]
        except KeyError:
            _start, _end, bias, layouts = self._ranges[index]
            symbol = layouts.symbol_at(address - bias)
            found = None if symbol is None else (symbol.name, address - bias - symbol.address)
            self._known[address] = found
            return found
