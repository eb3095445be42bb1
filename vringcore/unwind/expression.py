"""DWARF expressions as unwind tables use them (DWARF 5, section 2.5), in bounded steps."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.debuginfo.leb import sleb, uleb
from vringcore.errors import DwarfError, LimitError
from vringcore.unwind.registers import ENDIAN, MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vringcore.memory.space import HostSpace

MAX_STEPS = 1000
MAX_STACK = 64

_LIT0, _LIT31, _BREG0, _BREG31 = 0x30, 0x4F, 0x70, 0x8F

_CODES = zip((0x03, *range(0x08, 0x10)), "QBbHhIiQq", strict=True)
_CONSTANTS = {code: {order: Struct(order + form) for order in "<>"} for code, form in _CODES}
_OFFSETS = {order: Struct(order + "h") for order in "<>"}


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _divide(a: int, b: int) -> int:
    if not b:
        raise DwarfError("an unwind expression that divides by zero")
    a, b = _signed(a), _signed(b)
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _modulo(a: int, b: int) -> int:
    if not b:
        raise DwarfError("an unwind expression that divides by zero")
    return a % b


_BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b,
    0x1B: _divide,
    0x1C: lambda a, b: a - b,
    0x1D: _modulo,
    0x1E: lambda a, b: a * b,
    0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b,
    0x24: lambda a, b: a << b if b < 64 else 0,
    0x25: lambda a, b: a >> b if b < 64 else 0,
    0x26: lambda a, b: _signed(a) >> min(b, 63),
    0x27: lambda a, b: a ^ b,
    0x29: lambda a, b: a == b,
    0x2A: lambda a, b: _signed(a) >= _signed(b),
    0x2B: lambda a, b: _signed(a) > _signed(b),
    0x2C: lambda a, b: _signed(a) <= _signed(b),
    0x2D: lambda a, b: _signed(a) < _signed(b),
    0x2E: lambda a, b: a != b,
}


def evaluate(
    code: bytes,
    registers: Mapping[int, int],
    space: HostSpace,
    initial: int | None = None,
    order: str = "<",
) -> int:
    """Return the value of an expression.

    :param registers: by DWARF number
    :param initial: what lies on the stack at the start: the frame's address, for a rule that tells
        where a register is
    :param order: of bytes, as :mod:`struct` has it
    :raises DwarfError: if it is damaged, uses an operation that unwind tables may not use, or asks
        for a register that is not known
    :raises LimitError: after :data:`MAX_STEPS` steps, or with too much on its stack
    :raises MemoryFault: if it reads memory that is not there
    :raises IndexError, struct.error: if it is damaged
    """
    machine = _Machine(code, registers, space, [] if initial is None else [initial], order)
    for _ in range(MAX_STEPS):
        if not machine.step():
            return machine.stack[-1]
    raise LimitError("an unwind expression was left off", seen=f"{MAX_STEPS} steps")


class _Machine:
    def __init__(
        self,
        code: bytes,
        registers: Mapping[int, int],
        space: HostSpace,
        stack: list[int],
        order: str,
    ) -> None:
        self.stack = stack
        self._order = order
        self._code = code
        self._pos = 0
        self._registers = registers
        self._space = space

    def step(self) -> bool:
        """Do one operation; False at the end."""
        if self._pos >= len(self._code):
            return False
        operation = self._code[self._pos]
        self._pos += 1
        if _LIT0 <= operation <= _LIT31:
            self._push(operation - _LIT0)
        elif _BREG0 <= operation <= _BREG31:
            self._based(operation - _BREG0)
        elif operation in _CONSTANTS:
            layout = _CONSTANTS[operation][self._order]
            self._push(layout.unpack_from(self._code, self._pos)[0])
            self._pos += layout.size
        elif operation in _BINARY:
            right = self.stack.pop()
            self._push(int(_BINARY[operation](self.stack.pop(), right)))
        elif operation in _OTHERS:
            _OTHERS[operation](self)
        else:
            raise DwarfError(
                "an operation that unwind tables do not use",
                seen=f"DWARF operation {operation:#x}",
            )
        return True

    def _push(self, value: int) -> None:
        if len(self.stack) >= MAX_STACK:
            raise LimitError("an unwind expression was left off", seen=f"{MAX_STACK} values")
        self.stack.append(value & MASK)

    def _based(self, number: int) -> None:
        self._push(register(self._registers, number) + self._signed())

    def _unsigned(self) -> int:
        value, self._pos = uleb(self._code, self._pos)
        return value

    def _signed(self) -> int:
        value, self._pos = sleb(self._code, self._pos)
        return value

    def _byte(self) -> int:
        self._pos += 1
        return self._code[self._pos - 1]

    def read(self, size: int) -> None:
        """DW_OP_deref and DW_OP_deref_size."""
        if size not in (1, 2, 4, 8):
            raise DwarfError("an unwind expression that reads an odd size", seen=f"{size} bytes")
        data = self._space.read(HostAddress(self.stack.pop()), size)
        self._push(int.from_bytes(data, ENDIAN[self._order]))

    def jump(self, *, always: bool) -> None:
        """DW_OP_skip and DW_OP_bra."""
        layout = _OFFSETS[self._order]
        (offset,) = layout.unpack_from(self._code, self._pos)
        self._pos += layout.size
        if always or self.stack.pop():
            self._pos += offset
        if self._pos < 0:
            raise DwarfError("an unwind expression that leaves itself", seen=f"byte {self._pos}")

    def rotate(self) -> None:
        """DW_OP_rot."""
        stack = self.stack
        stack[-1], stack[-2], stack[-3] = stack[-2], stack[-3], stack[-1]

    def swap(self) -> None:
        """DW_OP_swap."""
        self.stack[-1], self.stack[-2] = self.stack[-2], self.stack[-1]


_OTHERS: dict[int, Callable[[_Machine], object]] = {
    0x06: lambda m: m.read(8),
    0x10: lambda m: m._push(m._unsigned()),
    0x11: lambda m: m._push(m._signed()),
    0x12: lambda m: m._push(m.stack[-1]),
    0x13: lambda m: m.stack.pop(),
    0x14: lambda m: m._push(m.stack[-2]),
    0x15: lambda m: m._push(m.stack[-1 - m._byte()]),
    0x16: _Machine.swap,
    0x17: _Machine.rotate,
    0x19: lambda m: m._push(abs(_signed(m.stack.pop()))),
    0x1F: lambda m: m._push(-m.stack.pop()),
    0x20: lambda m: m._push(~m.stack.pop()),
    0x23: lambda m: m._push(m.stack.pop() + m._unsigned()),
    0x28: lambda m: m.jump(always=False),
    0x2F: lambda m: m.jump(always=True),
    0x92: lambda m: m._based(m._unsigned()),
    0x94: lambda m: m.read(m._byte()),
    0x96: lambda _: None,
}


def register(registers: Mapping[int, int], number: int) -> int:
    """Return a register's value.

    :raises DwarfError: if it is not known
    """
    try:
        return registers[number]
    except KeyError:
        raise DwarfError(
            "unwinding needs a register whose value is lost", seen=f"DWARF register {number}"
        ) from None
