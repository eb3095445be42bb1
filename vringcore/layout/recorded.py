"""Layouts that remember what they were asked, so that exactly that can be given away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.layout import types
from vringcore.layout.bundle import Bundle, Typed, get_type, put_type, scope_key, tail_calls_key
from vringcore.layout.provider import Layouts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.layout.scopes import Scope
    from vringcore.layout.types import Code, Definition, SourceFrame, Symbol, Type, Variable
    from vringcore.layout.wanted import Wanted


class RecordedLayouts(Layouts):
    """The layouts of a build for one reader; what that reader asked is an excerpt of them.

    They share what is known with the layouts they are made from, and look further where those do.
    """

    def __init__(self, layouts: Layouts) -> None:
        super().__init__(layouts.bundle, layouts.providers)
        self._hints = layouts._hints
        self._asked: dict[str, None] = {}

    def find_definition(self, key: str, units: tuple[str, ...] = ()) -> Definition | None:
        """Return a definition; see :meth:`Layouts.find_definition`."""
        self._asked[key] = None
        return super().find_definition(key, units)

    def find_variable(self, name: str, unit: str = "", function: str = "") -> Variable | None:
        """Return a variable; see :meth:`Layouts.find_variable`."""
        key = "::".join(part for part in (unit, function, name) if part)
        self._asked["variable " + key] = None
        return super().find_variable(name, unit, function)

    def find_function(self, name: str, unit: str = "") -> Code | None:
        """Return a function; see :meth:`Layouts.find_function`."""
        self._asked["function " + (f"{unit}::{name}" if unit else name)] = None
        return super().find_function(name, unit)

    def find_enumerator(self, name: str) -> tuple[Type, int] | None:
        """Return an enumerator; see :meth:`Layouts.find_enumerator`."""
        self._asked["enumerator " + name] = None
        return super().find_enumerator(name)

    def find_symbol(self, name: str) -> Symbol | None:
        """Return a symbol; see :meth:`Layouts.find_symbol`."""
        self._asked["symbol " + name] = None
        return super().find_symbol(name)

    def symbol_at(self, address: int) -> Symbol | None:
        """Return the symbol around an address; see :meth:`Layouts.symbol_at`."""
        self._asked[f"at {address:x}"] = None
        return super().symbol_at(address)

    def source_of(self, address: int) -> tuple[SourceFrame, ...]:
        """Return source lines; see :meth:`Layouts.source_of`."""
        self._asked[f"lines {address:x}"] = None
        return super().source_of(address)

    def scope_of(self, link_address: int, *, all_variables: bool = False) -> Scope | None:
        """Return variables; see :meth:`Layouts.scope_of`."""
        self._asked[f"scope {scope_key(link_address, all_variables=all_variables)}"] = None
        return super().scope_of(link_address, all_variables=all_variables)

    def tail_calls_of(self, link_address: int) -> Scope | None:
        """Return tail calls; see :meth:`Layouts.tail_calls_of`."""
        self._asked[f"scope {tail_calls_key(link_address)}"] = None
        return super().tail_calls_of(link_address)

    def find_fact(self, name: str) -> str | None:
        """Return a fact; see :meth:`Layouts.find_fact`."""
        self._asked["fact " + name] = None
        return super().find_fact(name)

    def prefetch(self, wanted: Wanted) -> None:
        """Look a list up; see :meth:`Layouts.prefetch`."""
        super().prefetch(wanted)
        self._asked.update(dict.fromkeys(wanted.types))
        self._asked.update(dict.fromkeys(f"variable {name}" for name in wanted.variables))
        self._asked.update(dict.fromkeys(f"symbol {name}" for name in wanted.symbols))

    def complete(self) -> None:
        """Ask for every type that lies inside those asked for, so that they can be shown whole."""
        waiting = [key for key in self._asked if _is_type(key)]
        done = set(waiting)
        while waiting:
            found = self.find_definition(waiting.pop())
            for name in () if found is None else parts_of(found):
                if name.key not in done:
                    done.add(name.key)
                    waiting.append(name.key)

    def excerpt(self) -> tuple[Bundle, Bundle]:
        """Return what was asked, with its answers: types and variables, then names of addresses.

        Both are in the order of their keys, so that the same questions give the same bytes.
        """
        known = self.bundle
        build = _like(known)
        names = _like(known)
        absent = set(known.searched_absent)
        for key in sorted(self._asked):
            kind, _, name = key.partition(" ")
            if key in absent:
                build.searched_absent.append(key)
            elif kind in _TABLES:
                table = getattr(known, _TABLES[kind])
                if name in table:
                    into = names if kind in _OF_ADDRESSES else build
                    getattr(into, _TABLES[kind])[name] = table[name]
            else:
                typed = get_type(known, key)
                if typed is not None:
                    # Which file was found first depends on what was looked up before.
                    put_type(build, key, Typed(typed.definition))
        return build, names


def names_in(bundle: Bundle) -> Bundle:
    """Return the names of addresses in a bundle and nothing else, in the order of their keys."""
    names = _like(bundle)
    names.symbols = {key: bundle.symbols[key] for key in sorted(bundle.symbols)}
    names.symbols_at = {key: bundle.symbols_at[key] for key in sorted(bundle.symbols_at)}
    names.lines = {key: bundle.lines[key] for key in sorted(bundle.lines)}
    names.scopes = {key: bundle.scopes[key] for key in sorted(bundle.scopes)}
    return names


_TABLES = {
    "variable": "variables",
    "function": "functions",
    "enumerator": "enumerators",
    "symbol": "symbols",
    "fact": "facts",
    "at": "symbols_at",
    "lines": "lines",
    "scope": "scopes",
}

_OF_ADDRESSES = frozenset({"at", "lines", "scope"})


def _is_type(key: str) -> bool:
    return key.partition(" ")[0] in ("struct", "union", "enum", "typedef", "class")


def _like(bundle: Bundle) -> Bundle:
    return Bundle(
        build_id=bundle.build_id,
        module=bundle.module,
        machine=bundle.machine,
        big_endian=bundle.big_endian,
        pointer_size=bundle.pointer_size,
    )


def parts_of(definition: Definition | Type) -> Iterator[types.Named]:
    """Return the named types that lie inside a type, not those it points to."""
    match definition:
        case types.Named():
            yield definition
        case types.Typedef(type=inner) | types.Qualified(of=inner) | types.Array(of=inner):
            yield from parts_of(inner)
        case types.Record(members=members):
            for member in members:
                yield from parts_of(member.type)
