"""Expressions of unwind tables, operation by operation (DWARF 5, section 2.5)."""

from __future__ import annotations

from struct import error as struct_error

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view.memory import Memory
from vringcore.errors import DwarfError, LimitError, MemoryFault, VringcoreError
from vringcore.unwind.expression import MAX_STACK, evaluate

TOP = (1 << 64) - 1
REGISTERS = {6: 0x1000, 7: 0x2000, 16: 0x40100B}


def memory() -> Memory:
    found = Memory()
    found.put(0x1008, bytes.fromhex("efcdab8967452301"))
    return found


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("30", 0),  # lit0
        ("4f", 31),  # lit31
        ("0810", 0x10),  # const1u
        ("09ff", TOP),  # const1s
        ("0aff80", 0x80FF),  # const2u
        ("0bffff", TOP),  # const2s
        ("0cffffffff", 0xFFFFFFFF),  # const4u
        ("0dffffffff", TOP),  # const4s
        ("0e0102030405060708", 0x0807060504030201),  # const8u
        ("03ffffffffffffff7f", 0x7FFFFFFFFFFFFFFF),  # addr
        ("10ff01", 255),  # constu
        ("117f", TOP),  # consts
        ("7708", 0x2008),  # breg7 8
        ("767f", 0x0FFF),  # breg6 -1
        ("920608", 0x1008),  # bregx 6, 8
        ("760806", 0x0123456789ABCDEF),  # deref
        ("76089402", 0xCDEF),  # deref_size 2
        ("3112", 1),  # dup
        ("313213", 1),  # drop
        ("313214", 1),  # over
        ("3132331502", 1),  # pick 2
        ("313216", 1),  # swap: 2 1
        ("31323317", 2),  # rot: 3 1 2
        ("097f19", 127),  # abs
        ("09ff19", 1),
        ("311f", TOP),  # neg
        ("3020", TOP),  # not
        ("3f3a1a", 10),  # and 15, 10
        ("09f9321b", TOP - 2),  # div -7 / 2 = -3
        ("35371c", TOP - 1),  # minus 5 - 7
        ("37331d", 1),  # mod 7, 3
        ("37331e", 21),  # mul
        ("383121", 9),  # or
        ("09ff3122", 0),  # plus wraps
        ("312380 01".replace(" ", ""), 129),  # plus_uconst 128
        ("313f24", 1 << 15),  # shl
        ("31084024", 0),  # shl 64
        ("09ff083f25", 1),  # shr 63
        ("09f83226", TOP - 1),  # shra -8 >> 2
        ("333127", 2),  # xor
        ("333329", 1),  # eq
        ("09ff312d", 1),  # lt, signed
        ("09ff312b", 0),  # gt, signed
        ("33332a", 1),  # ge
        ("33332c", 1),  # le
        ("33332e", 0),  # ne
        ("2f01003f32", 2),  # skip over lit15
        ("312801003f32", 2),  # bra taken
        ("302801003f3222", 17),  # bra not taken: 15 + 2
        ("3196", 1),  # nop
        # A procedure linkage table's: rsp + 8 + ((rip & 15) >= 11) * 8
        ("770880003f1a3b2a332422", 0x2010),
    ],
)
def test_operations(code: str, value: int) -> None:
    program = bytes.fromhex(code)
    assert evaluate(program, REGISTERS, memory()) == value & TOP
    # What was on the stack before stays below.
    assert evaluate(program, REGISTERS, memory(), 0x55) == value & TOP


def test_the_frames_address_lies_on_the_stack() -> None:
    assert evaluate(bytes.fromhex("2308"), {}, memory(), 0x1000) == 0x1008


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ff", DwarfError),  # no such operation
        ("9c", DwarfError),  # DW_OP_call_frame_cfa has no meaning here
        ("7108", DwarfError),  # a register that is not known
        ("31301b", DwarfError),  # by zero
        ("31301d", DwarfError),
        ("76009403", DwarfError),  # three bytes
        ("2ff0ff", DwarfError),  # to before the start
        ("2ffdff", LimitError),  # to itself
        ("31" * (MAX_STACK + 1), LimitError),
        ("760006", MemoryFault),
    ],
)
def test_what_must_not_be_is_told(code: str, error: type[VringcoreError]) -> None:
    with pytest.raises(error):
        evaluate(bytes.fromhex(code), REGISTERS, memory())


@given(st.binary(max_size=40))
def test_any_bytes_end(code: bytes) -> None:
    try:
        value = evaluate(code, REGISTERS, memory(), 0x1000)
    except (VringcoreError, IndexError, struct_error):
        return
    assert 0 <= value <= TOP
