"""The units that can define a variable or function, as the symbols tell.

A local symbol stands behind the name of its source file. A global one lies between local ones, and
the linker puts the parts of every section in the order of its input: their units lie around its own
in the debug information, too. So a few units are searched instead of a thousand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from vringcore.debuginfo.chain import UnitChain
    from vringcore.debuginfo.symbols import SymbolTable

MAX_UNITS = 256


class Likely(msgspec.Struct, frozen=True):
    """Units by number, and the addresses that they must explain; no units if nothing is told."""

    units: tuple[int, ...] = ()
    addresses: frozenset[int] = frozenset()


NOTHING = Likely()


def likely_units(
    chain: UnitChain, table: SymbolTable, name: str, *, function: str = "", code: bool = False
) -> Likely:
    """Return where whatever has an address and a name can be defined.

    :param function: of which a variable of that name is sought, "" for one at file scope
    :param code: seek functions rather than variables
    """
    found = [n for n in table.namesakes(name) or () if n.code is code]
    if function:
        # Compilers rename a function's static variable: `name.7`, `function.name`.
        found = [n for n in found if not n.exact]
    exact = frozenset(n.symbol.address for n in found if n.exact)
    if not (exact or function or code):
        return NOTHING  # Link-time optimisation renamed it.
    numbers: set[int] = set()
    for namesake in found:
        around = _between(chain, *table.origin(namesake))
        if not around:
            return NOTHING
        numbers |= around
        if len(numbers) > MAX_UNITS:
            return NOTHING
    return Likely(tuple(sorted(numbers)), exact)


def _between(chain: UnitChain, below: str, above: str) -> set[int]:
    """Return the units of two files and those between them; file names need not be unique."""
    if not below or not above:
        return set()
    firsts = chain.ending_with(below)
    if below == above:
        return set(firsts)
    lasts = chain.ending_with(above)
    numbers: set[int] = set()
    for first in firsts:
        last = min((n for n in lasts if n >= first), default=first)
        if last - first < MAX_UNITS:
            numbers.update(range(first, last + 1))
    return numbers | set(lasts)
