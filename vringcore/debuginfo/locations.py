"""Where variables are: location lists and DWARF expressions (DWARF 5, sections 2.5 and 2.6)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.leb import sleb, uleb
from vringcore.debuginfo.ranges import base_of, table_of_file
from vringcore.debuginfo.units import Entry
from vringcore.errors import DwarfError
from vringcore.layout import scopes as op
from vringcore.layout.scopes import Op

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.units import Unit
    from vringcore.layout.scopes import Expression

MAX_ENTRIES = 1 << 16
MAX_OPERATIONS = 1 << 10
MAX_NESTED = 4

MASK = (1 << 64) - 1

(_END, _BASE_X, _START_X_END_X, _START_X_LENGTH, _OFFSET_PAIR, _DEFAULT, _BASE, _START_END,
 _START_LENGTH, _VIEWS) = range(10)  # fmt: skip
"""Kinds of entries of ``.debug_loclists`` (DW_LLE, DWARF 5, section 7.7.3; the last one is GNU's).
"""

_AT_LOCLISTS_BASE = 0x8C

_LIST_FORMS = frozenset({dw.FORM_SEC_OFFSET, dw.FORM_DATA4, dw.FORM_DATA8, dw.FORM_LOCLISTX})
"""DATA4 and DATA8 until DWARF 3."""


def expression_at(entry: Entry, at: int, address: int) -> bytes:
    """Return the expression of an attribute that holds at a link-time address, empty for none.

    :raises DwarfError: if its list cannot be read
    """
    value = entry.get(at)
    if isinstance(value, bytes):
        return value
    if value is None or entry.abbrev.forms[at] not in _LIST_FORMS:
        return b""
    unit = entry.unit
    if entry.abbrev.forms[at] == dw.FORM_LOCLISTX:
        value = _indexed(unit, value)
    if unit.header.version >= 5:
        walk = _entries(unit, value)
    else:
        walk = _pairs(unit, value) if unit.skeleton is None else _split_pairs(unit, value)
    fallback = b""
    for start, end, code in walk:
        if start <= address < end:
            return code
        if end < 0:
            fallback = code
    return fallback


def _section(unit: Unit, name: str) -> bytes:
    section = unit.dwarf.elf.section(name)
    if section is None:
        raise DwarfError(f"a list of locations without {name}", where=unit.where(0))
    return section.data


def _indexed(unit: Unit, index: int) -> int:
    table = unit.root().integer(_AT_LOCLISTS_BASE)
    if table is None and unit.skeleton is not None:
        table = table_of_file(unit)
    if table is None:
        raise DwarfError("a list of locations by index, without a table", where=unit.where(0))
    size = unit.header.offset_size
    raw = _section(unit, ".debug_loclists")[table + index * size : table + (index + 1) * size]
    if len(raw) != size:
        raise DwarfError("a list of locations leaves its table", seen=f"index {index}")
    return table + int.from_bytes(raw, unit.dwarf.byteorder)


def _pairs(unit: Unit, pos: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield start, end and expression of each entry of a list in ``.debug_loc``."""
    data, size = _section(unit, ".debug_loc"), unit.encoding.address_size
    base, order = base_of(unit), unit.dwarf.byteorder
    for _ in range(MAX_ENTRIES):
        start, end = _address(unit, data, pos), _address(unit, data, pos + size)
        pos += 2 * size
        if start == end == 0:
            return
        if start == (1 << (8 * size)) - 1:
            base = end
            continue
        length = int.from_bytes(data[pos : pos + 2], order)
        yield base + start, base + end, _block(data, pos + 2, length)
        pos += 2 + length


def _split_pairs(unit: Unit, pos: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the same of a list in ``.debug_loc.dwo``, as GNU extended DWARF 4."""
    data, base, order = _section(unit, ".debug_loc"), base_of(unit), unit.dwarf.byteorder
    for _ in range(MAX_ENTRIES):
        kind = data[pos]
        if kind == 0:
            return
        if kind > 4:
            raise DwarfError("an unknown kind of location", seen=f"DW_LLE_GNU {kind:#x}")
        first, pos = _operand(unit, data, pos + 1, "-xxx4"[kind])
        second, pos = _operand(unit, data, pos, "--x44"[kind])
        if kind == 1:
            base = first
            continue
        if kind == 3:
            second += first
        elif kind == 4:
            first, second = base + first, base + second
        length = int.from_bytes(_block(data, pos, 2), order)
        yield first, second, _block(data, pos + 2, length)
        pos += 2 + length


def _entries(unit: Unit, pos: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the same of a list in ``.debug_loclists``; of a default location the end is -1."""
    data, base = _section(unit, ".debug_loclists"), base_of(unit)
    for _ in range(MAX_ENTRIES):
        kind = data[pos]
        if kind == _END:
            return
        if kind > _VIEWS:
            raise DwarfError("an unknown kind of location", seen=f"DW_LLE {kind:#x}")
        first, pos = _operand(unit, data, pos + 1, _FIRST[kind])
        second, pos = _operand(unit, data, pos, _SECOND[kind])
        if kind in (_BASE, _BASE_X):
            base = first
        elif kind != _VIEWS:
            start, end = first, second
            if kind == _OFFSET_PAIR:
                start, end = base + first, base + second
            elif kind in (_START_X_LENGTH, _START_LENGTH):
                end = first + second
            elif kind == _DEFAULT:
                end = -1
            length, pos = uleb(data, pos)
            yield start, end, _block(data, pos, length)
            pos += length


_FIRST = "-xxxu-aaau"
_SECOND = "--xuu--auu"
"""Operands by kind: x an index of an address, u a number, a an address, - none."""


def _operand(unit: Unit, data: bytes, pos: int, form: str) -> tuple[int, int]:
    """Return an operand of an entry, an index replaced by its address, and its end."""
    if form == "-":
        return 0, pos
    if form == "4":
        return int.from_bytes(_block(data, pos, 4), unit.dwarf.byteorder), pos + 4
    if form == "a":
        return _address(unit, data, pos), pos + unit.encoding.address_size
    value, pos = uleb(data, pos)
    return (unit.address(value) if form == "x" else value), pos


def _block(data: bytes, pos: int, length: int) -> bytes:
    block = data[pos : pos + length]
    if len(block) != length:
        raise DwarfError("a location leaves its section", where=f"byte {pos:#x}")
    return block


def _address(unit: Unit, data: bytes, pos: int) -> int:
    return int.from_bytes(_block(data, pos, unit.encoding.address_size), unit.dwarf.byteorder)


# Expressions

_CONSTANTS = {
    0x08: ("B", 1), 0x09: ("b", 1), 0x0A: ("H", 2), 0x0B: ("h", 2),
    0x0C: ("I", 4), 0x0D: ("i", 4), 0x0E: ("Q", 8), 0x0F: ("q", 8),
}  # fmt: skip

_ALIKE = {
    0xA1: op.ADDR, 0xFB: op.ADDR, 0xA2: op.CONST, 0xFC: op.CONST, 0xF2: op.IMPLICIT_POINTER,
    0xF3: op.ENTRY_VALUE, 0xF4: op.CONST_TYPE, 0xF5: op.REGVAL_TYPE, 0xF6: op.DEREF_TYPE,
    0xF7: op.CONVERT, 0xF9: op.REINTERPRET,
}  # fmt: skip
"""By index, and GNU's numbers of what became part of DWARF 5."""

_PLAIN = frozenset({
    op.DEREF, op.DUP, op.DROP, op.OVER, op.SWAP, op.ROT, op.ABS, op.AND, op.DIV, op.MINUS, op.MOD,
    op.MUL, op.NEG, op.NOT, op.OR, op.PLUS, op.SHL, op.SHR, op.SHRA, op.XOR, op.EQ, op.GE, op.GT,
    op.LE, op.LT, op.NE, op.NOP, op.CFA, op.STACK_VALUE,
})  # fmt: skip

_NOT_DONE: Expression = (Op(op.UNSUPPORTED),)

_INTEGERS = frozenset({
    dw.ATE_BOOLEAN, dw.ATE_SIGNED, dw.ATE_SIGNED_CHAR, dw.ATE_UNSIGNED, dw.ATE_UNSIGNED_CHAR,
    dw.ATE_UTF,
})  # fmt: skip
_SIGNED = frozenset({dw.ATE_SIGNED, dw.ATE_SIGNED_CHAR})


class _Unsupported(Exception):  # noqa: N818 - no failure: such an expression is told as one
    pass


def operations(unit: Unit, code: bytes, depth: int = 0) -> Expression:
    """Return an expression as operations; the one UNSUPPORTED where it has such.

    :raises DwarfError, IndexError, struct.error: if it is damaged
    """
    try:
        return _Parser(unit, code, depth).run()
    except _Unsupported:
        return _NOT_DONE


class _Parser:
    def __init__(self, unit: Unit, code: bytes, depth: int) -> None:
        self._unit = unit
        self._code = code
        self._depth = depth
        self._pos = 0

    def run(self) -> Expression:
        """Parse the whole."""
        found: list[Op] = []
        numbers: dict[int, int] = {}
        while self._pos < len(self._code):
            if len(found) >= MAX_OPERATIONS:
                raise _Unsupported
            numbers[self._pos] = len(found)
            found.append(self._operation())
        numbers[self._pos] = len(found)
        return tuple(
            Op(each.code, numbers.get(each.value, len(found)))
            if each.code in (op.BRA, op.SKIP)
            else each
            for each in found
        )

    def _operation(self) -> Op:  # noqa: C901 - one line for each kind
        raw = self._byte()
        code = _ALIKE.get(raw, raw)
        if code in _PLAIN:
            return Op(code)
        if 0x30 <= code <= 0x4F:
            return Op(op.CONST, code - 0x30)
        if 0x50 <= code <= 0x6F:
            return Op(op.REG, code - 0x50)
        if 0x70 <= code <= 0x8F:
            return Op(op.BREG, self._signed(), code - 0x70)
        if code in _CONSTANTS:
            letter, size = _CONSTANTS[code]
            raw_value = Struct(self._unit.encoding.order + letter).unpack(self._take(size))[0]
            return Op(op.CONST, raw_value & MASK)
        if raw in (0xA1, 0xFB, 0xA2, 0xFC):
            return Op(code, self._unit.address(self._unsigned()))
        if code == op.ADDR:
            return Op(code, self._number(self._unit.encoding.address_size))
        if code in (op.REG, op.PIECE, op.PLUS_CONST, op.CONST):
            return Op(code, self._unsigned())
        if code == 0x11:
            return Op(op.CONST, self._signed() & MASK)
        if code == op.FBREG:
            return Op(code, self._signed())
        if code == op.BREG:
            register = self._unsigned()
            return Op(code, self._signed(), register)
        if code in (op.PICK, op.DEREF_SIZE):
            return Op(code, self._byte())
        if code in (op.BRA, op.SKIP):
            offset = self._number(2)
            return Op(code, self._pos + (offset - (1 << 16) if offset >> 15 else offset))
        if code == op.IMPLICIT_VALUE:
            size = self._unsigned()
            return Op(code, self._number(size), size)
        if code == op.IMPLICIT_POINTER:
            self._take(self._unit.header.offset_size)
            return Op(code, self._signed())
        if code == op.ENTRY_VALUE:
            inner = self._take(self._unsigned())
            if self._depth >= MAX_NESTED:
                raise _Unsupported
            return Op(code, inner=operations(self._unit, inner, self._depth + 1))
        return self._typed(code)

    def _typed(self, code: int) -> Op:
        if code == op.CONST_TYPE:
            size, signed = self._type()
            return Op(code, self._number(self._byte()), size, signed)
        if code in (op.REGVAL_TYPE, op.DEREF_TYPE):
            value = self._unsigned() if code == op.REGVAL_TYPE else self._byte()
            size, signed = self._type()
            return Op(code, value, size, signed)
        if code in (op.CONVERT, op.REINTERPRET):
            size, signed = self._type()
            return Op(code, 0, size, signed)
        raise _Unsupported

    def _type(self) -> tuple[int, bool]:
        """Take a reference to a base type; return its size and sign, 0 for the generic one."""
        offset = self._unsigned()
        if not offset:
            return 0, False
        entry = Entry(self._unit, offset)
        size, encoding = entry.integer(dw.AT_BYTE_SIZE), entry.integer(dw.AT_ENCODING)
        if size is None or not 0 < size <= 8 or encoding not in _INTEGERS:
            raise _Unsupported
        return size, encoding in _SIGNED

    def _byte(self) -> int:
        self._pos += 1
        return self._code[self._pos - 1]

    def _take(self, size: int) -> bytes:
        self._pos += size
        return _block(self._code, self._pos - size, size)

    def _number(self, size: int) -> int:
        if size > 8:
            raise _Unsupported
        return int.from_bytes(self._take(size), self._unit.dwarf.byteorder)

    def _unsigned(self) -> int:
        value, self._pos = uleb(self._code, self._pos)
        return value

    def _signed(self) -> int:
        value, self._pos = sleb(self._code, self._pos)
        return value
