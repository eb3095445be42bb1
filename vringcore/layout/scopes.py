"""Where a function has its parameters and variables at one instruction, as data.

Expressions are those of DWARF 5, section 2.5, told apart into operations: types and addresses that
they refer to stand in their place, so that no other part of the debug information is needed.

Annotations are evaluated here, as in :mod:`vringcore.layout.types`.
"""

import msgspec

from vringcore.errors import LayoutError
from vringcore.layout.bundle import Bundle
from vringcore.layout.types import Type

ADDR, DEREF, CONST, DUP, DROP, OVER, PICK, SWAP, ROT = (
    3,
    6,
    0x10,
    0x12,
    0x13,
    0x14,
    0x15,
    0x16,
    0x17,
)
ABS, AND, DIV, MINUS, MOD, MUL, NEG, NOT, OR, PLUS = 0x19, *range(0x1A, 0x23)
PLUS_CONST, SHL, SHR, SHRA, XOR, BRA, EQ, GE, GT, LE, LT, NE, SKIP = range(0x23, 0x30)
REG, FBREG, BREG, PIECE, DEREF_SIZE, NOP, CFA = 0x90, 0x91, 0x92, 0x93, 0x94, 0x96, 0x9C
IMPLICIT_VALUE, STACK_VALUE, IMPLICIT_POINTER = 0x9E, 0x9F, 0xA0
ENTRY_VALUE, CONST_TYPE, REGVAL_TYPE, DEREF_TYPE, CONVERT, REINTERPRET = (
    0xA3, 0xA4, 0xA5, 0xA6, 0xA8, 0xA9,
)  # fmt: skip
UNSUPPORTED = 0
"""Operations: DWARF's numbers, the shorter forms of each replaced by the general one.

UNSUPPORTED is one that this library does not do (thread-local storage, floating point ...).
"""


class Op(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """One operation.

    :param value: its operand: a constant, an offset, a link-time address; of REG, REGVAL_TYPE the
        register, of BRA and SKIP the index of the operation to go on with, of DEREF_TYPE the bytes
        to read
    :param size: bytes of the type that it deals in, 0 for DWARF's generic one; of BREG the register
    :param inner: of ENTRY_VALUE
    """

    code: int
    value: int = 0
    size: int = 0
    signed: bool = False
    inner: "tuple[Op, ...]" = ()


Expression = tuple[Op, ...]


class ScopeVariable(msgspec.Struct, frozen=True, omit_defaults=True):
    """A parameter or a variable.

    :param type: as C spells it
    :param shape: what it is below typedefs: a base type, a pointer (to void), an enumeration; void
        for a structure, a union, an array
    :param location: empty where it was optimised out
    :param constant: its value, where that is all there is
    """

    name: str
    type: str
    shape: Type
    size: int
    parameter: bool = False
    location: Expression = ()
    constant: int | None = None


class ScopeFunction(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function around the instruction."""

    name: str
    variables: tuple[ScopeVariable, ...] = ()


class Passed(msgspec.Struct, frozen=True):
    """What a call passes: where, and what that was worth in terms of the caller."""

    place: Expression
    value: Expression


class CallSite(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call.

    :param name: of the function that it calls, "" for a call through a pointer
    :param address: of that function's code at link time, where the module has it
    :param target: what such a pointer is worth
    """

    passed: tuple[Passed, ...] = ()
    name: str = ""
    address: int | None = None
    target: Expression = ()


class TailCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A jump to another function that a function ends in, where it leaves no frame of its own.

    :param back: link-time address behind the jump
    :param address: of the other function at link time, where the module has it
    :param name: of the other function, "" for a jump through a pointer
    """

    back: int
    address: int | None = None
    name: str = ""


class Scope(msgspec.Struct, frozen=True, omit_defaults=True):
    """The functions around one instruction, the innermost inlined one first.

    :param start: link-time address of the one that has the code
    :param frame_base: what FBREG counts from
    :param call: the call that the instruction is, if it is one
    :param tail_calls: of the function that has the code: all, or none where they are not all told
    """

    functions: tuple[ScopeFunction, ...] = ()
    start: int | None = None
    frame_base: Expression = ()
    call: CallSite | None = None
    tail_calls: tuple[TailCall, ...] = ()


MAX_SCOPES = 2048
"""Addresses whose variables a bundle keeps; the oldest go first."""

_decoder = msgspec.json.Decoder(Scope)
_encoder = msgspec.json.Encoder()


def get_scope(bundle: Bundle, key: str) -> Scope | None:
    """Return the variables at an address of a bundle, None if the bundle does not have them.

    :raises LayoutError: if they are damaged
    """
    raw = bundle.scopes.get(key)
    if raw is None:
        return None
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LayoutError(
            "variables in a layout bundle are damaged", where=key, seen=str(error)
        ) from error


def put_scope(bundle: Bundle, key: str, scope: Scope) -> None:
    """Add the variables at an address, in place of the oldest if there are too many."""
    while len(bundle.scopes) >= MAX_SCOPES:
        del bundle.scopes[next(iter(bundle.scopes))]
    bundle.scopes[key] = msgspec.Raw(_encoder.encode(scope))
