"""Where a variable is and what it is worth, in one activation of a function.

DWARF 5, sections 2.5 and 2.6. Values are those of integers: what deals in floating point, or in
another thread's variables, is said to be not supported. What needs a register that is lost is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.errors import DwarfError, LimitError
from vringcore.layout import scopes as op
from vringcore.unwind.registers import ENDIAN, MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vringcore.layout.scopes import Expression, Op
    from vringcore.memory.space import HostSpace

MAX_STEPS = 2000
MAX_STACK = 64
MAX_NESTED = 12
"""Frames that are asked for what they passed, one after the other."""

WORD = 8

Number = tuple[int, int, bool]
"""A value, the bytes of its type (0: DWARF's generic one), and whether it has a sign."""


class Lost(Exception):  # noqa: N818 - an answer, no failure
    """The value is nowhere any more: it was optimised out, or a register that had it was reused."""


class NotReached(Exception):  # noqa: N818
    """The value is the caller's to tell, and the stack could not be followed to it."""


class NotSupported(Exception):  # noqa: N818
    """The value may be there, but this library cannot tell."""


class Located(msgspec.Struct, frozen=True):
    """A variable: in memory at ``address``, or, where that is None, the bytes ``data`` alone."""

    address: int | None
    data: bytes = b""


class Activation:
    """A function's activation, as far as expressions ask.

    :param registers: those that are known, by DWARF number
    :param cfa: gives the frame's address, and may raise :class:`Lost` or :class:`NotReached`
    :param bias: run-time minus link-time address of its module
    :param frame_base: what FBREG counts from
    :param entered_with: gives what a caller passed in a place, and may raise the same
    :param order: of bytes, as :mod:`struct` has it
    """

    __slots__ = ("bias", "cfa", "entered_with", "frame_base", "order", "registers", "space")

    def __init__(
        self,
        registers: Mapping[int, int],
        cfa: Callable[[], int],
        bias: int,
        space: HostSpace,
        frame_base: Expression,
        entered_with: Callable[[Expression, int], int],
        order: str = "<",
    ) -> None:
        self.registers = registers
        self.cfa = cfa
        self.bias = bias
        self.space = space
        self.frame_base = frame_base
        self.entered_with = entered_with
        self.order = order

    def without_frame_base(self) -> Activation:
        """Return the same for the frame base itself, which may not count from itself."""
        return Activation(
            self.registers, self.cfa, self.bias, self.space, (), self.entered_with, self.order
        )

    def in_register(self, value: int, size: int) -> bytes:
        """Return the bytes of an object that a register has: its lowest."""
        whole = value.to_bytes(WORD, ENDIAN[self.order])
        return whole[:size] if self.order == "<" else whole[max(0, WORD - size) :]


def locate(code: Expression, size: int, activation: Activation) -> Located:
    """Return where a variable is, or its value.

    :raises Lost, NotReached, NotSupported: if that cannot be told
    :raises DwarfError, LimitError: if the expression makes no sense
    :raises MemoryFault: if it reads memory that is not there
    """
    if not code:
        raise Lost
    if any(each.code == op.PIECE for each in code):
        return Located(None, _assembled(code, size, activation))
    return _simple(code, size, activation)


def number(code: Expression, activation: Activation, depth: int = 0) -> int:
    """Return the value of an expression, 64 bits; errors as :func:`locate`."""
    return _Machine(activation, depth).run(code)[0] & MASK


def _simple(code: Expression, size: int, activation: Activation) -> Located:
    last = code[-1]
    if len(code) == 1 and last.code == op.REG:
        return Located(None, activation.in_register(_register(activation, last.value), size))
    if last.code == op.IMPLICIT_POINTER:
        raise Lost
    if len(code) == 1 and last.code == op.IMPLICIT_VALUE:
        return Located(None, last.value.to_bytes(last.size, "little")[:size])
    value, width, _ = _Machine(activation, 0).run(code)
    if last.code != op.STACK_VALUE:
        return Located(value & MASK)
    if size > (width or WORD):
        raise NotSupported
    return Located(None, activation.in_register(value & MASK, size))


def _assembled(code: Expression, size: int, activation: Activation) -> bytes:
    """Return the bytes of a variable that lies in pieces."""
    data, part = b"", []
    for each in code:
        if each.code != op.PIECE:
            part.append(each)
            continue
        if len(data) + each.value > max(size, 1 << 16):
            raise DwarfError("a variable of more pieces than it has bytes")
        found = locate(tuple(part), each.value, activation)
        if found.address is None:
            data += found.data
        else:
            data += activation.space.read(HostAddress(found.address), each.value)
        part = []
    return data[:size]


def _register(activation: Activation, which: int) -> int:
    value = activation.registers.get(which)
    if value is None:
        raise Lost
    return value & MASK


def _interpreted(value: int, size: int, signed: bool) -> int:
    bits = 8 * (size or WORD)
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


class _Machine:
    def __init__(self, activation: Activation, depth: int) -> None:
        self._activation = activation
        self._depth = depth
        self._stack: list[Number] = []

    def run(self, code: Expression) -> Number:
        """Do the operations; return what is left on top."""
        at = 0
        for _ in range(MAX_STEPS):
            if not 0 <= at < len(code):
                if not self._stack:
                    raise DwarfError("a location that leaves nothing")
                return self._stack[-1]
            each = code[at]
            at += 1
            if each.code == op.SKIP or (each.code == op.BRA and self._pop()[0]):
                at = each.value
            elif each.code != op.BRA:
                self._do(each)
        raise LimitError("a location was left off", seen=f"{MAX_STEPS} steps")

    def _do(self, each: Op) -> None:
        code = each.code
        if code in _BINARY:
            right, left = self._pop(), self._pop()
            self._push(*_binary(code, left, right))
        elif code in _SHIFTS:
            right, left = self._pop(), self._pop()
            self._push(_SHIFTS[code](left, right[0]), *left[1:])
        elif code in _COMPARISONS:
            right, left = self._pop(), self._pop()
            signed = not left[1] or left[2]
            first, second = (_interpreted(v[0], v[1], signed) for v in (left, right))
            _same_type(left, right)
            self._push(int(_COMPARISONS[code](first, second)))
        else:
            action = _ACTIONS.get(code)
            if action is None:
                raise NotSupported
            action(self, each)

    def _pop(self) -> Number:
        if not self._stack:
            raise DwarfError("a location that takes from an empty stack")
        return self._stack.pop()

    def _push(self, value: int, size: int = 0, signed: bool = False) -> None:
        if len(self._stack) >= MAX_STACK:
            raise LimitError("a location was left off", seen=f"{MAX_STACK} values")
        self._stack.append((_interpreted(value, size, signed), size, signed))

    def _pick(self, back: int) -> None:
        if back >= len(self._stack):
            raise DwarfError("a location that takes from an empty stack")
        self._push(*self._stack[-1 - back])

    def _read(self, count: int, size: int = 0, *, signed: bool = False) -> None:
        if not 1 <= count <= WORD:
            raise NotSupported
        address = HostAddress(self._pop()[0] & MASK)
        data = self._activation.space.read(address, count)
        self._push(int.from_bytes(data, ENDIAN[self._activation.order]), size, signed)

    def _frame_base(self, offset: int) -> None:
        base = self._activation.frame_base
        if not base:
            raise NotSupported
        if len(base) == 1 and base[0].code == op.REG:
            value = _register(self._activation, base[0].value)
        else:
            value = number(base, self._activation.without_frame_base(), self._depth)
        self._push(value + offset)

    def _cfa(self) -> None:
        self._push(self._activation.cfa())

    def _entry_value(self, place: Expression) -> None:
        if self._depth >= MAX_NESTED:
            raise Lost
        self._push(self._activation.entered_with(place, self._depth + 1))

    def _convert(self, each: Op) -> None:
        self._push(self._pop()[0], each.size, each.signed)

    def _turn(self, count: int) -> None:
        """Move the topmost value below ``count`` others."""
        if len(self._stack) <= count:
            raise DwarfError("a location that takes from an empty stack")
        self._stack.insert(-count, self._stack.pop())

    def _unary(self, compute: Callable[[int], int]) -> None:
        value, size, signed = self._pop()
        self._push(compute(_interpreted(value, size, signed or not size)), size, signed)


def _same_type(left: Number, right: Number) -> None:
    if left[1:] != right[1:]:
        raise NotSupported


def _binary(code: int, left: Number, right: Number) -> Number:
    _same_type(left, right)
    size, signed = left[1:]
    if code in (op.DIV, op.MOD):
        if not right[0]:
            raise DwarfError("a location that divides by zero")
        # Of the generic type a quotient has a sign and a remainder has none.
        by_sign = signed if size else code == op.DIV
        first, second = (_interpreted(v[0], size, by_sign) for v in (left, right))
        quotient = abs(first) // abs(second)
        quotient = quotient if (first < 0) == (second < 0) else -quotient
        value = quotient if code == op.DIV else first - second * quotient
        return value, size, signed
    return _BINARY[code](left[0], right[0]), size, signed


_BINARY: dict[int, Callable[[int, int], int]] = {
    op.AND: lambda a, b: a & b,
    op.DIV: lambda a, b: a // b,
    op.MINUS: lambda a, b: a - b,
    op.MOD: lambda a, b: a % b,
    op.MUL: lambda a, b: a * b,
    op.OR: lambda a, b: a | b,
    op.PLUS: lambda a, b: a + b,
    op.XOR: lambda a, b: a ^ b,
}

_SHIFTS: dict[int, Callable[[Number, int], int]] = {
    op.SHL: lambda v, by: v[0] << by if 0 <= by < 64 else 0,
    op.SHR: lambda v, by: _interpreted(v[0], v[1], signed=False) >> min(max(by, 0), 64),
    op.SHRA: lambda v, by: _interpreted(v[0], v[1], signed=True) >> min(max(by, 0), 64),
}

_COMPARISONS: dict[int, Callable[[int, int], bool]] = {
    op.EQ: lambda a, b: a == b,
    op.GE: lambda a, b: a >= b,
    op.GT: lambda a, b: a > b,
    op.LE: lambda a, b: a <= b,
    op.LT: lambda a, b: a < b,
    op.NE: lambda a, b: a != b,
}

_ACTIONS: dict[int, Callable[[_Machine, Op], None]] = {
    op.ADDR: lambda m, o: m._push(o.value + m._activation.bias),
    op.DEREF: lambda m, _: m._read(WORD),
    op.CONST: lambda m, o: m._push(o.value),
    op.DUP: lambda m, _: m._pick(0),
    op.DROP: lambda m, _: (m._pop(), None)[1],
    op.OVER: lambda m, _: m._pick(1),
    op.PICK: lambda m, o: m._pick(o.value),
    op.SWAP: lambda m, _: m._turn(1),
    op.ROT: lambda m, _: m._turn(2),
    op.ABS: lambda m, _: m._unary(abs),
    op.NEG: lambda m, _: m._unary(lambda v: -v),
    op.NOT: lambda m, _: m._unary(lambda v: ~v),
    op.PLUS_CONST: lambda m, o: m._unary(lambda v: v + o.value),
    op.FBREG: lambda m, o: m._frame_base(o.value),
    op.BREG: lambda m, o: m._push(_register(m._activation, o.size) + o.value),
    op.DEREF_SIZE: lambda m, o: m._read(o.value),
    op.NOP: lambda _m, _o: None,
    op.CFA: lambda m, _: m._cfa(),
    op.STACK_VALUE: lambda _m, _o: None,
    op.ENTRY_VALUE: lambda m, o: m._entry_value(o.inner),
    op.CONST_TYPE: lambda m, o: m._push(o.value, o.size, o.signed),
    op.REGVAL_TYPE: lambda m, o: m._push(_register(m._activation, o.value), o.size, o.signed),
    op.DEREF_TYPE: lambda m, o: m._read(o.value, o.size, signed=o.signed),
    op.CONVERT: lambda m, o: m._convert(o),
    op.REINTERPRET: lambda m, o: m._convert(o),
}
