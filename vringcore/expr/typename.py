"""C types as gdb spells them: ``struct VirtQueue *``, ``void (*)(void *)``, ``const char [16]``.

``show`` is gdb's measure of detail. Above zero the outermost type is shown by what it is, not by
its name; at zero only what has no name is; below zero nothing is: ``struct {...}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.layout.types import (
    Array,
    Base,
    Enum,
    Function,
    Named,
    Pointer,
    Qualified,
    Record,
    Typedef,
    Void,
)

if TYPE_CHECKING:
    from vringcore.layout.provider import Layouts
    from vringcore.layout.types import Type

MAX_DEPTH = 100

Qualifiers = frozenset[str]

_ORDER = ("const", "volatile", "restrict", "_Atomic")

_SHORTER = {
    "short int": "short",
    "short unsigned int": "unsigned short",
    "long int": "long",
    "long unsigned int": "unsigned long",
    "long long int": "long long",
    "long long unsigned int": "unsigned long long",
}
"""GCC's names of base types as gdb writes them."""


def spelled(layouts: Layouts, type_: Type) -> str:
    """Return a type's name as gdb's ``whatis`` writes it."""
    return Speller(layouts).declaration(type_)


def unqualified(type_: Type) -> tuple[Qualifiers, Type]:
    """Return a type's qualifiers and the type below them; its typedefs are kept.

    A qualified array is an array of qualified elements (C11 6.7.3).
    """
    if not isinstance(type_, Qualified):
        return frozenset(), type_
    found = set()
    while isinstance(type_, Qualified):
        found.add(type_.qualifier)
        type_ = type_.of
    if isinstance(type_, Array):
        element = type_.of
        for qualifier in found:
            element = Qualified(qualifier, element)
        return frozenset(), Array(element, type_.count)
    return frozenset(found), type_


def peeled(layouts: Layouts, type_: Type) -> Type | None:
    """Return what a typedef stands for, one level down; None if the type is no typedef.

    :raises LayoutMissingError: if the typedef is not known
    """
    if isinstance(type_, Named) and type_.kind == "typedef":
        definition = layouts.definition(type_.key)
        assert isinstance(definition, Typedef)
        return definition.type
    return None


def below_typedefs(layouts: Layouts, type_: Type) -> tuple[Qualifiers, Type]:
    """Return all qualifiers of a type, and what it is; structs and enums only by name."""
    qualifiers, core = unqualified(type_)
    for _ in range(MAX_DEPTH):
        inner = peeled(layouts, core)
        if inner is None:
            break
        for qualifier in qualifiers:
            inner = Qualified(qualifier, inner)
        qualifiers, core = unqualified(inner)
    return qualifiers, core


class Speller:
    """Writes declarations; structs and unions only as ``{...}``.

    :param layouts: where typedefs are looked up
    """

    def __init__(self, layouts: Layouts) -> None:
        self.layouts = layouts

    def declaration(self, type_: Type, name: str = "", show: int = -1, level: int = 0) -> str:
        """Return the declaration of ``name``, or the type alone.

        :param level: spaces by which the lines of a struct's body are indented
        """
        text = self.base(type_, show, level)
        core = self._seen(type_, show)[1]
        derived = isinstance(core, Pointer | Function | Array)
        if name or derived:
            text += " "
        text += self._prefix(type_, show, inside_pointer=False, before_name=bool(name))
        return text + name + self._suffix(type_, show, inside_pointer=False)

    def base(self, type_: Type, show: int, level: int) -> str:
        """Return what stands left of a declaration's name, pointers left out."""
        qualifiers, core = self._seen(type_, show)
        if isinstance(core, Function):
            return self.base(core.returns, show, level)
        if isinstance(core, Array):
            return self.base(core.of, show, level)
        if isinstance(core, Pointer):
            return self.base(core.to, show, level)
        if isinstance(core, Void) and show > 0:
            return "void"  # gdb's own way: const is lost where names are looked through
        text = _modifiers(qualifiers, after=True)
        if isinstance(core, Base):
            return text + _SHORTER.get(core.name, core.name)
        if isinstance(core, Void):
            return text + "void"
        assert isinstance(core, Named | Record | Enum)
        kind = "enum" if isinstance(core, Enum) else core.kind
        if kind == "typedef":
            assert core.name is not None
            return text + core.name
        text += f"{kind} {core.name or ''}"
        if show > 0 and core.name is not None:
            text += " "
        if show < 0 or (show == 0 and core.name is not None):
            return text if core.name is not None else text + "{...}"
        return text + self.body(core, show, level)

    def body(self, core: Named | Record | Enum, show: int, level: int) -> str:  # noqa: ARG002
        """Return what a struct, union or enumeration holds, in braces."""
        return "{...}"

    def _seen(self, type_: Type, show: int) -> tuple[Qualifiers, Type]:
        return below_typedefs(self.layouts, type_) if show > 0 else unqualified(type_)

    def _prefix(self, type_: Type, show: int, *, inside_pointer: bool, before_name: bool) -> str:
        qualifiers, core = self._seen(type_, show)
        if isinstance(core, Pointer):
            text = self._prefix(core.to, show, inside_pointer=True, before_name=True)
            return text + "*" + _modifiers(qualifiers, before=True, after=before_name)
        bracket = "(" if inside_pointer else ""
        if isinstance(core, Function):
            returns = self._prefix(core.returns, show, inside_pointer=False, before_name=False)
            return returns + bracket
        if isinstance(core, Array):
            element = self._prefix(core.of, show, inside_pointer=False, before_name=before_name)
            return element + bracket
        return ""

    def _suffix(self, type_: Type, show: int, *, inside_pointer: bool) -> str:
        core = self._seen(type_, show)[1]
        bracket = ")" if inside_pointer else ""
        if isinstance(core, Pointer):
            return self._suffix(core.to, show, inside_pointer=True)
        if isinstance(core, Array):
            count = "" if core.count is None else core.count
            return f"{bracket}[{count}]" + self._suffix(core.of, show, inside_pointer=False)
        if isinstance(core, Function):
            returns = self._suffix(core.returns, show, inside_pointer=False)
            return bracket + self._parameters(core) + returns
        return ""

    def _parameters(self, function: Function) -> str:
        words = [self.declaration(parameter, show=0) for parameter in function.parameters]
        if function.variadic and function.prototyped:
            words.append("...")
        elif not words and function.prototyped:
            words.append("void")
        return f"({', '.join(words)})"


def _modifiers(qualifiers: Qualifiers, *, before: bool = False, after: bool = False) -> str:
    words = " ".join(word for word in _ORDER if word in qualifiers)
    if not words:
        return ""
    return " " * before + words + " " * after
