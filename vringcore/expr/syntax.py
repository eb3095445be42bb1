"""The tree of an expression: what was written, before any name means anything.

``at`` is where in the text a node's operator or word stands, in characters from 0.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class _Node(msgspec.Struct, frozen=True):
    at: int


# Types as written


class PointerTo(msgspec.Struct, frozen=True):
    """``*`` in a type, with the qualifiers behind it."""

    qualifiers: tuple[str, ...] = ()


class ArrayOf(msgspec.Struct, frozen=True):
    """``[count]`` in a type; None for ``[]``."""

    count: int | None


class FunctionOf(msgspec.Struct, frozen=True):
    """A list of parameters in a type."""

    parameters: tuple[TypeName, ...]
    variadic: bool
    prototyped: bool


Derivation = PointerTo | ArrayOf | FunctionOf


class TypeName(_Node, frozen=True):
    """A type: what it starts from, and what is derived from that, the innermost first.

    ``char (*)[16]`` starts from ``char``; of that 16, and to those a pointer.

    :ivar kind: ``base`` for what C spells with keywords, else what the name is the name of
    """

    kind: Literal["base", "struct", "union", "enum", "typedef"]
    name: str
    qualifiers: tuple[str, ...] = ()
    derivations: tuple[Derivation, ...] = ()


# Expressions


class Integer(_Node, frozen=True):
    """An integer constant; ``long`` counts the ``l`` behind it."""

    value: int
    decimal: bool
    unsigned: bool
    long: int


class Floating(_Node, frozen=True):
    """A floating constant; ``suffix`` is "", ``f`` or ``l``."""

    value: float
    suffix: str


class Character(_Node, frozen=True):
    """A character constant, as the byte it is."""

    value: int


class String(_Node, frozen=True):
    """A string, without the NUL behind it."""

    value: bytes


class Name(_Node, frozen=True):
    """A variable, function or enumerator; ``unit`` and ``function`` as far as they were given."""

    name: str
    unit: str = ""
    function: str = ""


class Unary(_Node, frozen=True):
    """``* & + - ~ !`` before an operand."""

    operator: str
    operand: Expression


class Binary(_Node, frozen=True):
    """Two operands, also of ``&& || , @``."""

    operator: str
    left: Expression
    right: Expression


class Conditional(_Node, frozen=True):
    """``condition ? then : otherwise``."""

    condition: Expression
    then: Expression
    otherwise: Expression


class Member(_Node, frozen=True):
    """``operand.name`` or ``operand->name``, which mean the same here as they do to gdb."""

    operand: Expression
    name: str


class Index(_Node, frozen=True):
    """``operand[index]``."""

    operand: Expression
    index: Expression


class Cast(_Node, frozen=True):
    """``(type) operand``."""

    type: TypeName
    operand: Expression


class MemoryAt(_Node, frozen=True):
    """``{type} address``: gdb's way to say what lies somewhere."""

    type: TypeName
    address: Expression


class SizeOf(_Node, frozen=True):
    """``sizeof`` of a type or of an expression, which is not evaluated."""

    operand: TypeName | Expression


class ContainerOf(_Node, frozen=True):
    """``container_of(pointer, type, member)``."""

    pointer: Expression
    type: TypeName
    path: str


class OffsetOf(_Node, frozen=True):
    """``offsetof(type, member)``."""

    type: TypeName
    path: str


Expression = (
    Integer
    | Floating
    | Character
    | String
    | Name
    | Unary
    | Binary
    | Conditional
    | Member
    | Index
    | Cast
    | MemoryAt
    | SizeOf
    | ContainerOf
    | OffsetOf
)
