"""What a source of layouts answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vringcore.layout.bundle import Typed
    from vringcore.layout.scopes import Scope
    from vringcore.layout.types import Code, SourceFrame, Symbol, Type, Variable


class Provider(Protocol):
    """A source of layouts. ``name`` says which, for messages; ``log`` gathers what was ambiguous.

    Each method returns None where it knows that the thing is not there, raises
    :class:`~vringcore.layout.provider.NotSearched` where it cannot tell, and another of our errors
    where it is damaged.
    ``units`` are suffixes of the source files that are likely to define it: hints.
    """

    name: str
    log: list[str]

    def definition(self, key: str, units: tuple[str, ...]) -> Typed | None:
        """Return a type's definition."""
        ...

    def variable(self, name: str, units: tuple[str, ...], function: str) -> Variable | None:
        """Return a variable, a static one of a function if ``function`` is set."""
        ...

    def function(self, name: str, units: tuple[str, ...]) -> Code | None:
        """Return a function that has code of its own."""
        ...

    def enumerator(self, name: str) -> Type | None:
        """Return the enumeration that has an enumerator."""
        ...

    def files_with(self, name: str, function: str) -> list[str]:
        """Return the files that have a variable (of a function), or a function, of a name."""
        ...

    def names(self, kind: str) -> list[str]:
        """Return every name of a kind: ``struct`` and so on, ``variable``, ``function``."""
        ...

    def similar(self, name: str, kind: str) -> list[str]:
        """Return names like one: with ``variable`` of symbols, and the name itself if it is known.

        Of a type's name not all need be of the kind, or of types.
        """
        ...

    def symbol(self, name: str) -> Symbol | None:
        """Return an ELF symbol by name."""
        ...

    def symbol_at(self, address: int) -> Symbol | None:
        """Return the ELF symbol whose bytes hold a link-time address."""
        ...

    def source_of(self, address: int) -> tuple[SourceFrame, ...] | None:
        """Return the functions, files and lines of a link-time address of code."""
        ...

    def scope_of(self, address: int, *, all_variables: bool) -> Scope | None:
        """Return the variables around a link-time address of code; of locals only if asked."""
        ...

    def tail_calls_of(self, address: int) -> Scope | None:
        """Return the tail calls of the function that begins at a link-time address."""
        ...
