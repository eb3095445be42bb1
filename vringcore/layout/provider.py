"""Everything known about one build's types, variables and symbols, from providers in order.

A :class:`Layouts` asks its bundle first, then each provider (the debug information, then the ELF
symbols), keeps what it learns in the bundle, and keeps a log of what was tried and refused. Only a
provider that searched everything can say that something is not there.
"""

from __future__ import annotations

from _thread import RLock  # `threading` costs more to import than a bundle to read
from bisect import bisect_right
from typing import TYPE_CHECKING, TypeVar

from vringcore.errors import LayoutMissingError, VringcoreError
from vringcore.layout import access
from vringcore.layout.bundle import (
    Bundle,
    Typed,
    get_type,
    put_lines,
    put_type,
    scope_key,
    tail_calls_key,
)
from vringcore.layout.cache import LayoutCache
from vringcore.layout.types import Enum, Named, Record, SourceFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vringcore.layout.protocol import Provider
    from vringcore.layout.scopes import Scope
    from vringcore.layout.types import Code, Definition, Symbol, Type, Typedef, Variable
    from vringcore.layout.wanted import Wanted

T = TypeVar("T")

MAX_LOG = 1000

LOOK_BACK = 8
"""Symbols before an address that are tried for a size that covers it."""


class NotSearched(VringcoreError):  # noqa: N818 - not a failure: somebody else may know
    """A provider cannot tell whether something is there."""

    code = "not-searched"


class Layouts:
    """What is known about one module build; grows as it is asked.

    ``derived`` is for higher layers to keep what they compile from it; it lives as long as this
    does and is shared by all cores of the build. ``log`` tells what was tried and refused.

    :param providers: gone through when the bundle first does not know something, not before
    """

    def __init__(
        self, bundle: Bundle, providers: Iterable[Provider] = (), cache: LayoutCache | None = None
    ) -> None:
        self._bundle = bundle
        self._offered = providers
        self._taken: list[Provider] | None = None
        self._cache = cache
        self._lock = RLock()
        self._types: dict[str, Typed | None] = {}
        self._absent = set(bundle.searched_absent)
        self._hints: dict[str, tuple[str, ...]] = {}
        self._extended = False
        self._in_order: list[Symbol] | None = None
        self.derived: dict[object, object] = {}
        self.log: list[str] = []
        self.resolved: dict[str, Type] = {}

    @property
    def build_id(self) -> str:
        """The module's build-id, "" if it has none."""
        return self._bundle.build_id

    @property
    def pointer_size(self) -> int:
        """Bytes in a pointer."""
        return self._bundle.pointer_size

    @property
    def big_endian(self) -> bool:
        """Whether the most significant byte comes first."""
        return self._bundle.big_endian

    @property
    def byteorder(self) -> str:
        """The byte order as :mod:`struct` writes it: ``<`` or ``>``."""
        return ">" if self._bundle.big_endian else "<"

    @property
    def bundle(self) -> Bundle:
        """What is known so far, for writing out."""
        self._bundle.searched_absent = sorted(self._absent)
        return self._bundle

    @property
    def _providers(self) -> list[Provider]:
        with self._lock:
            if self._taken is None:
                self._taken = list(self._offered)
            return self._taken

    @property
    def providers(self) -> Sequence[Provider]:
        """Who is asked for what is not known."""
        return tuple(self._providers)

    def offer(self, providers: Iterable[Provider]) -> None:
        """Use providers from now on, if there were none so far.

        Those of an earlier core stand, also where nothing had to be asked of them yet.
        """
        with self._lock:
            none_so_far = self._offered == () if self._taken is None else not self._taken
            if none_so_far:
                self._taken = list(providers)
                self._types = {k: t for k, t in self._types.items() if t is not None}

    def share_types(self, known: Layouts) -> None:
        """Use what was made from the very same types: decoded, resolved, compiled.

        Whoever calls this answers for it that both bundles have the same types. Names and lines of
        addresses are not shared.
        """
        self._types = known._types
        self.resolved = known.resolved
        self.derived = known.derived

    # Types

    def find_definition(self, key: str, units: tuple[str, ...] = ()) -> Definition | None:
        """Return the definition of ``struct X``, ``union X``, ``enum X`` or ``typedef X``.

        :param units: suffixes of source files that are likely to define it
        :return: None if the build has none, or nothing could tell (``log`` says why)
        """
        typed = self._typed(key, units)
        return None if typed is None else typed.definition

    def definition(self, key: str, units: tuple[str, ...] = ()) -> Definition:
        """Return a definition; see :meth:`find_definition`.

        :raises LayoutMissingError: if there is none; the message tells what was tried
        """
        found = self.find_definition(key, units)
        if found is None:
            raise self.missing(key)
        return found

    def unit_of(self, key: str) -> str:
        """Return the source file whose definition is used for a type, "" if that is not known."""
        typed = self._typed(key, ())
        return "" if typed is None else typed.unit

    def _typed(self, key: str, units: tuple[str, ...]) -> Typed | None:
        try:
            return self._types[key]
        except KeyError:
            pass
        with self._lock:
            typed = None
            try:
                typed = get_type(self._bundle, key)
            except VringcoreError as error:
                self._note(f"bundle: {error}")
            if typed is None and key not in self._absent:
                units = units or self._hints.get(key, ())
                typed, certain = self._ask(key, lambda p: p.definition(key, units))
                if typed is not None:
                    put_type(self._bundle, key, typed)
                elif certain:
                    self._absent.add(key)
            self._types[key] = typed
            return typed

    def named(self, key: str) -> Named:
        """Return the type that a key names, without looking it up."""
        kind, _, name = key.partition(" ")
        return Named(kind, name)  # type: ignore[arg-type]

    def resolve(self, type_: Type | Typedef) -> Type:
        """Return what a type is below its typedefs and qualifiers; structs and enums in full.

        :raises LayoutMissingError: if a name on the way is not known
        """
        return access.resolve(self, type_)

    def size_of(self, type_: Type) -> int:
        """Return ``sizeof(type)`` in bytes; 0 for a flexible array, 1 for void, as GNU C has it.

        :raises LayoutMissingError: if a name in it is not known
        """
        return access.size_of(self, type_)

    def member(self, record: Record, path: str) -> access.Place | None:
        """Return where a member lies: ``vring.desc``, ``a.b[2].c``; see :func:`access.member`."""
        return access.member(self, record, path)

    # Variables and functions

    def find_variable(self, name: str, unit: str = "", function: str = "") -> Variable | None:
        """Return a variable: global, static, or static inside ``function``.

        :param unit: a suffix of its source file's path. A static variable of another file counts
            only if no other variable of the program has its name.
        """
        key = "::".join(part for part in (unit, function, name) if part)
        known = self._bundle.variables.get(key)
        if known is not None:
            return known
        units = (unit,) if unit else self._hints.get("variable " + name, ())
        return self._look(
            self._bundle.variables, key, "variable ", lambda p: p.variable(name, units, function)
        )

    def variable(self, name: str, unit: str = "", function: str = "") -> Variable:
        """Return a variable; see :meth:`find_variable`.

        :raises LayoutMissingError: if there is none; the message tells what was tried
        """
        found = self.find_variable(name, unit, function)
        if found is None:
            raise self.missing("variable " + "::".join(p for p in (unit, function, name) if p))
        return found

    def find_function(self, name: str, unit: str = "") -> Code | None:
        """Return a function that has code of its own, None if there is none."""
        key = f"{unit}::{name}" if unit else name
        units = (unit,) if unit else ()
        return self._look(
            self._bundle.functions, key, "function ", lambda p: p.function(name, units)
        )

    def find_enumerator(self, name: str) -> tuple[Type, int] | None:
        """Return the type and value of an enumerator, None if no enumeration has it."""
        known = self._bundle.enumerators
        type_ = self._look(known, name, "enumerator ", lambda p: p.enumerator(name))
        enum = None if type_ is None else self.resolve(type_)
        if type_ is None or not isinstance(enum, Enum) or name not in enum.enumerators:
            return None
        return type_, enum.enumerators[name]

    # What to tell who asked in vain

    def is_absent(self, key: str) -> bool:
        """Tell whether it is certain that the build lacks what a key names (``variable x``)."""
        return key in self._absent

    def files_with(self, name: str, function: str = "") -> list[str]:
        """Return the files that have a variable or function of a name, as far as can be told."""
        found, _ = self._ask(f"files with {name}", lambda p: p.files_with(name, function))
        return found or []

    def names(self, kind: str) -> list[str]:
        """Return every name of a kind (``struct``, ``variable``), as far as can be told."""
        found, _ = self._ask(f"names of every {kind}", lambda p: p.names(kind))
        return found or []

    def similar(self, name: str, kind: str) -> list[str]:
        """Return names that may have been meant by one, some of other kinds among them."""
        found, _ = self._ask(f"names like {name}", lambda p: p.similar(name, kind))
        return found or []

    # ELF symbols

    def find_symbol(self, name: str) -> Symbol | None:
        """Return the ELF symbol of that name, None if there is none."""
        return self._look(self._bundle.symbols, name, "symbol ", lambda p: p.symbol(name))

    def symbol_at(self, address: int) -> Symbol | None:
        """Return the ELF symbol whose ``[address, address + size)`` holds a link-time address."""
        key = format(address, "x")
        known = self._bundle.symbols_at
        try:
            return known[key]
        except KeyError:
            pass
        with self._lock:
            if not self._providers:
                return self._covering(address)
            symbol, certain = self._ask(f"symbol at {key}", lambda p: p.symbol_at(address))
            if symbol is not None or certain:
                known[key] = symbol
            return symbol

    def _covering(self, address: int) -> Symbol | None:
        """Return the symbol of a bundle whose bytes hold an address; the one that starts last."""
        if self._in_order is None:
            found = filter(None, self._bundle.symbols_at.values())
            self._in_order = sorted(found, key=lambda symbol: symbol.address)
        end = bisect_right(self._in_order, address, key=lambda symbol: symbol.address)
        for symbol in reversed(self._in_order[max(0, end - LOOK_BACK) : end]):
            if address < symbol.address + symbol.size:
                return symbol
        return None

    # Source lines

    def source_of(self, link_address: int) -> tuple[SourceFrame, ...]:
        """Return the functions that a link-time address of code lies in, with file and line.

        The innermost inlined function comes first, the last is the one that has the code; the line
        of each but the first is that of the call in it. Where only symbols are at hand there is the
        name alone; empty: nothing is known. Of a return address ask for the byte before it.
        """
        key = format(link_address, "x")
        known = self._bundle.lines.get(key)
        if known is not None:
            return known
        with self._lock:
            if self._providers:
                frames, certain = self._ask(f"source of {key}", lambda p: p.source_of(link_address))
                if frames:
                    put_lines(self._bundle, key, frames)
                if frames or certain:
                    return frames or ()
            symbol = self.symbol_at(link_address)
            return () if symbol is None else (SourceFrame(symbol.name),)

    def scope_of(self, link_address: int, *, all_variables: bool = False) -> Scope | None:
        """Return the variables around a link-time address of code, None where nothing is known.

        :param all_variables: local ones too, not parameters alone
        """
        key = scope_key(link_address, all_variables=all_variables)
        return self._scope(
            key, "variables", lambda p: p.scope_of(link_address, all_variables=all_variables)
        )

    def tail_calls_of(self, link_address: int) -> Scope | None:
        """Return the tail calls of the function that begins at a link-time address of code.

        None where no debug information tells of such a function. No variables are in the answer.
        """
        key = tail_calls_key(link_address)
        return self._scope(key, "tail calls", lambda p: p.tail_calls_of(link_address))

    def _scope(self, key: str, what: str, ask: Callable[[Provider], Scope | None]) -> Scope | None:
        from vringcore.layout.scopes import get_scope, put_scope

        known = get_scope(self._bundle, key)
        if known is not None or not self._providers:
            return known
        with self._lock:
            found, _ = self._ask(f"{what} at {key}", ask)
            if found is not None:
                put_scope(self._bundle, key, found)
            return found

    def _look(
        self, known: dict[str, T], key: str, kind: str, ask: Callable[[Provider], T | None]
    ) -> T | None:
        found = known.get(key)
        if found is not None or kind + key in self._absent:
            return found
        with self._lock:
            found, certain = self._ask(kind + key, ask)
            if found is not None:
                known[key] = found
            elif certain:
                self._absent.add(kind + key)
            return found

    def _ask(self, what: str, ask: Callable[[Provider], T | None]) -> tuple[T | None, bool]:
        """Return the first provider's answer, and whether "not there" is certain."""
        certain = False
        for provider in self._providers:
            try:
                found = ask(provider)
            except NotSearched as error:
                self._note(f"{what}: {provider.name}: {error}")
                continue
            except VringcoreError as error:
                # Another provider may know; whether the thing exists is now open.
                self._note(f"{what}: {provider.name} refused: {error}")
                certain = False
                continue
            self._extended = True
            while provider.log:
                self._note(f"{what}: {provider.log.pop(0)}")
            if found is not None:
                return found, True
            certain = True
            self._note(f"{what}: not in {provider.name}")
        return None, certain

    # Facts

    def find_fact(self, name: str) -> str | None:
        """Return a fact about the build that was learned from an earlier core of it."""
        return self._bundle.facts.get(name)

    def learn(self, name: str, fact: str) -> None:
        """Keep a fact about the build: something that is the same in every core of it."""
        with self._lock:
            self._bundle.facts[name] = fact
            self._extended = True

    # All at once

    def hint(self, variables: dict[str, tuple[str, ...]]) -> None:
        """Remember which source files are likely to define variables; nothing is looked up.

        :param variables: by name, suffixes of the unit's path
        """
        for name, units in variables.items():
            self._hints.setdefault("variable " + name, units)

    def prefetch(self, wanted: Wanted) -> None:
        """Look up a whole list, once per build: what is not there is noted as such.

        Nothing is raised; who needs one of them and cannot do without gets the error then.
        """
        self.hint(wanted.variables)
        for key, units in wanted.types.items():
            self._hints.setdefault(key, units)
        digest = wanted.digest
        if digest in self._bundle.wanted:
            return
        for key in wanted.types:
            self.find_definition(key)
        for name in wanted.variables:
            self.find_variable(name)
        for name in wanted.symbols:
            self.find_symbol(name)
        self._bundle.wanted.append(digest)
        self._extended = True

    def save(self) -> None:
        """Write the cache if anything was learned; that it cannot be written is only logged."""
        with self._lock:
            if self._cache is None or not self._extended or not self.build_id:
                return
            self._extended = False
            refused = self._cache.write(self.bundle)
            if refused:
                self._note(refused)

    def _note(self, text: str) -> None:
        if len(self.log) < MAX_LOG:
            self.log.append(text)

    def missing(self, key: str) -> LayoutMissingError:
        """Return the error for what nothing knows of; it tells what was tried."""
        tried = [line for line in self.log if line.startswith((key + ":", "bundle:"))]
        providers = ", ".join(p.name for p in self._providers) or "no debug information at hand"
        return LayoutMissingError(
            f"{key} is not known",
            where=f"build-id {self.build_id or 'unknown'}",
            seen="; ".join(tried[-3:]) or providers,
            hint="give the debug information of this very build (--debug-file, --debug-dir)"
            if not self._providers
            else "this build may not have it",
        )
