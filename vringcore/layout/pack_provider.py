"""Layouts from a pack: types from it, places of variables from the binary at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.layout.pack import pack_type
from vringcore.layout.provider import NotSearched
from vringcore.layout.types import Enum, Named, Variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from vringcore.layout.bundle import Typed
    from vringcore.layout.pack import Pack
    from vringcore.layout.scopes import Scope
    from vringcore.layout.types import Code, SourceFrame, Symbol, Type

SIMILAR = 8
"""Names that are offered for one that is not there."""


class PackProvider:
    """The provider over one pack.

    :param symbol: returns the exported symbol of a name
    :param static_place: returns the link-time address of a static variable, by name or
        ``function::name``; None if nothing tells
    :param thread_place: likewise the offset of a thread-local one in the module's block
    """

    def __init__(
        self,
        pack: Pack,
        symbol: Callable[[str], Symbol | None],
        static_place: Callable[[str], int | None],
        thread_place: Callable[[str], int | None],
    ) -> None:
        self.pack = pack
        self.name = f"layout pack {pack.name}"
        self.log: list[str] = []
        self._symbol = symbol
        self._static_place = static_place
        self._thread_place = thread_place
        self._enumerators: dict[str, str] | None = None

    def definition(self, key: str, units: tuple[str, ...]) -> Typed | None:  # noqa: ARG002
        """Return a type's definition; the pack has one of each name, and others by their file."""
        typed = pack_type(self.pack, key)
        if typed is None and not self.pack.complete:
            raise NotSearched("the pack does not have it")
        return typed

    def variable(self, name: str, units: tuple[str, ...], function: str) -> Variable:  # noqa: ARG002
        """Return a variable where the binary at hand tells its place.

        :raises NotSearched: if it does not
        """
        key = f"{function}::{name}" if function else name
        known = self.pack.variables.get(key)
        symbol = None if function or (known and not known.external) else self._symbol(name)
        type_, unit = (known.type, known.unit) if known else (None, "")
        if symbol is not None:
            return Variable(
                name=name,
                address=symbol.address,
                type=type_,
                size=symbol.size,
                unit=unit,
                external=True,
                thread_local=symbol.thread_local,
            )
        address, offset = self._static_place(key), self._thread_place(key)
        if address is None and offset is None:
            raise NotSearched(f"variable {name} is static, and the binary has no symbol of it")
        return Variable(
            name=name,
            address=(offset or 0) if address is None else address,
            type=type_,
            unit=unit,
            function=function,
            thread_local=address is None,
        )

    def enumerator(self, name: str) -> Type:
        """Return the enumeration that has an enumerator."""
        if self._enumerators is None:
            self._enumerators = {}
            for key in self.pack.types:
                typed = pack_type(self.pack, key) if key.startswith("enum ") else None
                if typed is not None and isinstance(typed.definition, Enum) and "@" not in key:
                    names = dict.fromkeys(typed.definition.enumerators, key[len("enum ") :])
                    self._enumerators.update(names)
        if name not in self._enumerators:
            self._refuse("enumerators of unnamed types")
        return Named("enum", self._enumerators[name])

    def names(self, kind: str) -> list[str]:
        """Return every name of a kind that the pack has."""
        if kind == "variable":
            return [name for name in self.pack.variables if "::" not in name]
        keys = (key.partition(" ") for key in self.pack.types if "@" not in key)
        return [name for each, _, name in keys if each == kind]

    def similar(self, name: str, kind: str) -> list[str]:
        """Return names like one."""
        from difflib import get_close_matches

        return get_close_matches(name, self.names(kind), SIMILAR)

    def function(self, name: str, units: tuple[str, ...]) -> Code | None:  # noqa: ARG002
        """Refuse: packs have no code."""
        self._refuse("functions")

    def files_with(self, name: str, function: str) -> list[str]:  # noqa: ARG002
        """Refuse: that takes debug information."""
        self._refuse("files")

    def symbol(self, name: str) -> Symbol | None:  # noqa: ARG002
        """Refuse: symbols are the binary's own."""
        self._refuse("symbols")

    def symbol_at(self, address: int) -> Symbol | None:  # noqa: ARG002
        """Refuse: symbols are the binary's own."""
        self._refuse("symbols")

    def source_of(self, address: int) -> tuple[SourceFrame, ...] | None:  # noqa: ARG002
        """Refuse: that takes debug information."""
        self._refuse("source lines")

    def scope_of(self, address: int, *, all_variables: bool) -> Scope | None:  # noqa: ARG002
        """Refuse: that takes debug information."""
        self._refuse("variables of functions")

    def tail_calls_of(self, address: int) -> Scope | None:  # noqa: ARG002
        """Refuse: that takes debug information."""
        self._refuse("calls")

    def _refuse(self, what: str) -> NoReturn:
        raise NotSearched(f"a layout pack has no {what}")
