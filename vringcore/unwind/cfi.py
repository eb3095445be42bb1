"""Call frame instructions: where a function at one instruction has its caller's registers.

DWARF 5, section 6.4; GNU additions and aarch64's as GCC, binutils and "DWARF for the Arm 64-bit
Architecture" describe them.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.debuginfo.damage import ours
from vringcore.debuginfo.leb import sleb, uleb
from vringcore.errors import DwarfError
from vringcore.unwind.expression import evaluate, register
from vringcore.unwind.pointers import pointer
from vringcore.unwind.registers import ENDIAN, MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vringcore.memory.space import HostSpace
    from vringcore.unwind.ehframe import FunctionEntry

MAX_REGISTER = 255
MAX_SAVED = 256
"""Rows that may be remembered at once."""


class How(Enum):
    """Where the caller's value of a register is."""

    UNDEFINED = "undefined"
    SAME = "same"
    OFFSET = "at CFA + offset"
    VALUE = "is CFA + offset"
    REGISTER = "in another register"
    AT_EXPRESSION = "at what an expression tells"
    EXPRESSION = "is what an expression tells"


Rule = tuple[How, int, bytes]
"""How, with a number (offset, register) and an expression where it takes one."""

_SAME: Rule = (How.SAME, 0, b"")

_ADVANCE, _OFFSET, _RESTORE = 0x40, 0x80, 0xC0


class Row:
    """The rules that hold at one instruction.

    :ivar cfa_register: what the canonical frame address is reckoned from, with ``cfa_offset``
    :ivar cfa_expression: tells the address itself where it is not empty
    :ivar rules: by DWARF register; a register that is not there has none
    :ivar signed: whether the return address is signed (aarch64)
    :ivar order: of bytes in memory, as :mod:`struct` has it
    """

    __slots__ = ("cfa_expression", "cfa_offset", "cfa_register", "order", "rules", "signed")

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.cfa_register: int | None = None
        self.cfa_offset = 0
        self.cfa_expression = b""
        self.rules: dict[int, Rule] = {}
        self.signed = False

    def copy(self) -> Row:
        """Return an equal row that can be changed."""
        other = Row(self.order)
        other.take(self)
        return other

    def take(self, other: Row) -> None:
        """Become equal to another row."""
        self.cfa_register, self.cfa_offset = other.cfa_register, other.cfa_offset
        self.cfa_expression = other.cfa_expression
        self.rules = dict(other.rules)
        self.signed = other.signed

    @ours
    def cfa(self, registers: Mapping[int, int], space: HostSpace) -> int:
        """Return the canonical frame address: what the stack pointer was before the call.

        :raises DwarfError, LimitError: if the rule is damaged or a register is not known
        :raises MemoryFault: if it needs memory that is not there
        """
        if self.cfa_expression:
            return evaluate(self.cfa_expression, registers, space, order=self.order)
        if self.cfa_register is None:
            raise DwarfError("no rule for the frame's address")
        return (register(registers, self.cfa_register) + self.cfa_offset) & MASK

    @ours
    def value(
        self, number: int, cfa: int, registers: Mapping[int, int], space: HostSpace
    ) -> int | None:
        """Return the caller's value of a register by its rule, None if that says it is lost.

        :raises DwarfError, LimitError, MemoryFault: as :meth:`cfa`
        """
        how, operand, expression = self.rules.get(number, _SAME)
        if how is How.OFFSET:
            return self._word(space, cfa + operand)
        if how is How.SAME:
            return registers.get(number)
        if how is How.UNDEFINED:
            return None
        if how is How.VALUE:
            return (cfa + operand) & MASK
        if how is How.REGISTER:
            return registers.get(operand)
        found = evaluate(expression, registers, space, cfa, self.order)
        return self._word(space, found) if how is How.AT_EXPRESSION else found

    def _word(self, space: HostSpace, address: int) -> int:
        return int.from_bytes(space.read(HostAddress(address & MASK), 8), ENDIAN[self.order])


@ours
def row_at(entry: FunctionEntry, pc: int) -> Row:
    """Return the rules that hold at an instruction of a function.

    :raises DwarfError: if the instructions are damaged
    """
    runner = _Runner(entry)
    runner.run(entry.common.instructions, None, entry.common.address)
    runner.initial = runner.row.copy()
    runner.run(entry.instructions, pc, entry.address)
    return runner.row


class _Runner:
    def __init__(self, entry: FunctionEntry) -> None:
        self.row = Row(entry.common.order)
        self.initial = Row(entry.common.order)
        self._common = entry.common
        self._location = entry.start
        self._saved: list[Row] = []
        self._code = b""
        self._pos = 0

    def run(self, code: bytes, until: int | None, base: int) -> None:
        """Do instructions, up to the first for code behind ``until``."""
        self._code, self._pos = code, 0
        align = self._common.code_align
        while self._pos < len(code):
            instruction = code[self._pos]
            self._pos += 1
            low, kind = instruction & 0x3F, instruction & 0xC0
            if kind == _ADVANCE:
                self._location += low * align
            elif kind == _OFFSET:
                self._set(low, How.OFFSET, self.unsigned() * self._common.data_align)
            elif kind == _RESTORE:
                self._restore(low)
            elif instruction in _ADVANCES:
                layout = _ADVANCES[instruction][self._common.order]
                self._location += layout.unpack_from(code, self._pos)[0] * align
                self._pos += layout.size
            elif instruction == _SET_LOC:
                encoding = self._common.encoding
                self._location, self._pos = pointer(
                    code, self._pos, encoding, base, order=self._common.order
                )
            elif instruction in _OPERATIONS:
                _OPERATIONS[instruction](self)
            else:
                raise DwarfError(
                    "an unknown call frame instruction",
                    where=f"the unwind entry at {base:#x}",
                    seen=f"{instruction:#x}",
                )
            if until is not None and self._location > until:
                return

    def unsigned(self) -> int:
        """Take an unsigned number."""
        value, self._pos = uleb(self._code, self._pos)
        return value

    def signed(self) -> int:
        """Take a signed number."""
        value, self._pos = sleb(self._code, self._pos)
        return value

    def nothing(self) -> None:
        """DW_CFA_nop."""

    def negate_ra_state(self) -> None:
        """DW_CFA_AARCH64_negate_ra_state."""
        self.row.signed = not self.row.signed

    def remember(self) -> None:
        """DW_CFA_remember_state."""
        if len(self._saved) >= MAX_SAVED:
            raise DwarfError("unwind rows remembered without end", seen=f"{MAX_SAVED} at once")
        self._saved.append(self.row.copy())

    def recall(self) -> None:
        """DW_CFA_restore_state."""
        self.row.take(self._saved.pop())

    def restore_extended(self) -> None:
        """DW_CFA_restore_extended."""
        self._restore(self.unsigned())

    def plain(self, how: How) -> None:
        """DW_CFA_undefined and DW_CFA_same_value."""
        self._set(self.unsigned(), how)

    def in_register(self) -> None:
        """DW_CFA_register."""
        number = self.unsigned()
        self._set(number, How.REGISTER, self.unsigned())

    def factored(self, how: How, take: Callable[[_Runner], int], sign: int = 1) -> None:
        """DW_CFA_offset_extended, DW_CFA_val_offset and their kin."""
        number = self.unsigned()
        self._set(number, how, sign * take(self) * self._common.data_align)

    def expression(self, how: How) -> None:
        """DW_CFA_expression and DW_CFA_val_expression."""
        number = self.unsigned()
        self._set(number, how, 0, self._block())

    def cfa(self, *, factored: bool) -> None:
        """DW_CFA_def_cfa and DW_CFA_def_cfa_sf."""
        self.cfa_register()
        self.cfa_offset(factored=factored)

    def cfa_register(self) -> None:
        """DW_CFA_def_cfa_register."""
        self.row.cfa_register = self.unsigned()
        self.row.cfa_expression = b""

    def cfa_offset(self, *, factored: bool) -> None:
        """DW_CFA_def_cfa_offset and DW_CFA_def_cfa_offset_sf."""
        value = self.signed() * self._common.data_align if factored else self.unsigned()
        self.row.cfa_offset = value
        self.row.cfa_expression = b""

    def cfa_expression(self) -> None:
        """DW_CFA_def_cfa_expression."""
        self.row.cfa_expression = self._block()

    def _set(self, number: int, how: How, operand: int = 0, expression: bytes = b"") -> None:
        if number > MAX_REGISTER:
            raise DwarfError("a register that no machine has", seen=f"number {number}")
        self.row.rules[number] = how, operand, expression

    def _restore(self, number: int) -> None:
        rule = self.initial.rules.get(number)
        if rule is None:
            self.row.rules.pop(number, None)
        else:
            self.row.rules[number] = rule

    def _block(self) -> bytes:
        size = self.unsigned()
        if size > len(self._code) - self._pos:
            raise DwarfError("an unwind expression that leaves its entry", seen=f"{size} bytes")
        self._pos += size
        return self._code[self._pos - size : self._pos]


_SET_LOC = 0x01
_ADVANCES = {
    code: {order: Struct(order + form) for order in "<>"}
    for code, form in ((0x02, "B"), (0x03, "H"), (0x04, "I"))
}

_OPERATIONS: dict[int, Callable[[_Runner], object]] = {
    0x00: _Runner.nothing,
    0x05: lambda run: run.factored(How.OFFSET, _Runner.unsigned),
    0x06: _Runner.restore_extended,
    0x07: lambda run: run.plain(How.UNDEFINED),
    0x08: lambda run: run.plain(How.SAME),
    0x09: _Runner.in_register,
    0x0A: _Runner.remember,
    0x0B: _Runner.recall,
    0x0C: lambda run: run.cfa(factored=False),
    0x0D: _Runner.cfa_register,
    0x0E: lambda run: run.cfa_offset(factored=False),
    0x0F: _Runner.cfa_expression,
    0x10: lambda run: run.expression(How.AT_EXPRESSION),
    0x11: lambda run: run.factored(How.OFFSET, _Runner.signed),
    0x12: lambda run: run.cfa(factored=True),
    0x13: lambda run: run.cfa_offset(factored=True),
    0x14: lambda run: run.factored(How.VALUE, _Runner.unsigned),
    0x15: lambda run: run.factored(How.VALUE, _Runner.signed),
    0x16: lambda run: run.expression(How.EXPRESSION),
    0x2D: _Runner.negate_ra_state,
    # DW_CFA_GNU_args_size matters to exceptions only.
    0x2E: _Runner.unsigned,
    0x2F: lambda run: run.factored(How.OFFSET, _Runner.unsigned, -1),
}
