"""What no compiled program shows: memory that is missing, hostile types, every floating number."""

from __future__ import annotations

import ctypes
import platform
import re
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.qemu.support import Image, views_of
from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError, LimitError, MemoryFault, UsageError
from vringcore.expr.cvalue import CValue
from vringcore.expr.show import show
from vringcore.expr.show_float import format_of, written
from vringcore.expr.show_text import Kind, Limits, string
from vringcore.layout.bundle import Typed, put_type
from vringcore.layout.types import Array, Base, Enum, Member, Named, Pointer, Record
from vringcore.memory.gaps import GapKind

INT = Base("int", 4, "signed")
CHAR = Base("char", 1, "char")
PAIR = Record(
    "struct", "Pair", 16, (Member("a", INT, 0), Member("p", Pointer(CHAR), 8))
)  # fmt: skip
AT = 0x1000
DEFAULT = Limits()


def value(type_: Any, blocks: dict[int, bytes], gap: GapKind = GapKind.UNMAPPED) -> CValue:
    views = views_of(Image(blocks, gap))
    put_type(views.layouts.bundle, "struct Pair", Typed(PAIR))
    return CValue(views, type_, address=HostAddress(AT))


def text(data: bytes, **limits: Any) -> str:
    return string(data, Kind(1), "little", Limits(**limits))


def test_a_string_ends_where_memory_does() -> None:
    blocks = {AT: struct.pack("<i4xQ", 7, 0x2000), 0x2000: b"cut"}
    unmapped = "<error: Cannot access memory at address 0x2000>"
    assert show(value(PAIR, blocks)) == f'{{a = 7, p = 0x2000 "cut"{unmapped}}}'


def test_a_string_that_is_not_there() -> None:
    blocks = {AT: struct.pack("<i4xQ", 7, 0x2000)}
    unmapped = "<error: Cannot access memory at address 0x2000>"
    assert show(value(PAIR, blocks)) == f"{{a = 7, p = 0x2000 {unmapped}}}"


def test_a_core_that_lacks_the_page_says_so() -> None:
    blocks = {AT: struct.pack("<i4xQ", 7, 0x2000)}
    shown = show(value(PAIR, blocks, GapKind.NOT_DUMPED))
    assert shown == (
        "{a = 7, p = 0x2000 <error: Cannot access memory at address 0x2000: "
        "memory that the core does not hold>}"
    )


def test_a_pointer_to_the_end_of_the_address_space() -> None:
    top = 2**64 - 2
    shown = show(value(PAIR, {AT: struct.pack("<i4xQ", 7, top)}))
    assert shown.endswith(f"p = {top:#x} <error: Cannot access memory at address {top:#x}>}}")


def test_members_that_are_there_are_shown() -> None:
    """gdb shows nothing of such an object; partial truth is kept."""
    pairs = Array(Named("struct", "Pair"), 4)
    half = struct.pack("<i4xQ", 7, 0) * 2
    assert show(value(pairs, {AT: half})) == (
        "{{a = 7, p = 0x0}, {a = 7, p = 0x0}, "
        "{a = <error: Cannot access memory at address 0x1020>, "
        "p = <error: Cannot access memory at address 0x1028>}, "
        "{a = <error: Cannot access memory at address 0x1030>, "
        "p = <error: Cannot access memory at address 0x1038>}}"
    )


def test_missing_elements_are_not_taken_for_zero() -> None:
    zeros = Array(INT, 40)
    shown = show(value(zeros, {AT: bytes(80)}))
    missing = "<error: Cannot access memory at address 0x1050>"
    assert shown == f"{{0 <repeats 20 times>, {missing} <repeats 20 times>}}"


@pytest.mark.parametrize("type_", [INT, PAIR, Array(INT, 4)])
def test_an_object_that_is_not_there_is_an_error(type_: Any) -> None:
    with pytest.raises(MemoryFault):
        show(value(type_, {}))


def test_an_object_of_unreasonable_size_is_refused() -> None:
    with pytest.raises(CorruptDataError):
        show(value(Array(INT, 1 << 40), {AT: bytes(16)}))


def test_types_that_multiply_end() -> None:
    """Each struct holds two of the next, none of them any byte: 2**30 members in 30 lines."""
    views = views_of(Image({}))
    for level in range(30):
        inner = Named("struct", f"S{level + 1}")
        members = (Member(None, inner, 0), Member(None, inner, 0))
        record = Record("struct", f"S{level}", 0, members)
        put_type(views.layouts.bundle, f"struct S{level}", Typed(record))
    put_type(views.layouts.bundle, "struct S30", Typed(Record("struct", "S30", 0, ())))
    with pytest.raises(LimitError):
        show(CValue(views, Named("struct", "S0"), data=b""))


def test_a_struct_inside_itself_ends() -> None:
    views = views_of(Image({}))
    itself = Record("struct", "Loop", 0, (Member("x", Named("struct", "Loop"), 0),))
    put_type(views.layouts.bundle, "struct Loop", Typed(itself))
    shown = show(CValue(views, Named("struct", "Loop"), data=b""))
    assert shown == "{x = " * 20 + "{...}" + "}" * 20


def test_no_such_format() -> None:
    with pytest.raises(UsageError):
        show(value(INT, {AT: bytes(4)}), format="q")


def test_limits_are_the_callers() -> None:
    numbers = value(Array(INT, 8), {AT: struct.pack("<8i", 1, 1, 1, 2, 3, 4, 5, 6)})
    assert show(numbers, elements=3) == "{1, 1, 1...}"
    assert show(numbers, repeats=2) == "{1 <repeats 3 times>, 2, 3, 4, 5, 6}"
    assert show(value(Array(PAIR, 1), {AT: bytes(16)}), max_depth=1) == "{{...}}"


def test_big_endian_bit_fields() -> None:
    views = views_of(Image({AT: b"\xa5\xf0\x00\x00"}), big_endian=True)
    unsigned = Base("unsigned int", 4, "unsigned")
    members = (Member("a", INT, 0, 4, 0), Member("b", unsigned, 0, 8, 4))
    record = Record("struct", "B", 4, members)
    assert show(CValue(views, record, address=HostAddress(AT))) == "{a = -6, b = 95}"


@pytest.mark.parametrize(
    ("number", "shown"), [(1, "A"), (3, "(A | B)"), (0, "0"), (9, "(A | unknown: 0x8)")]
)
def test_flags(number: int, shown: str) -> None:
    flags = Enum("F", 4, False, {"A": 1, "B": 2})
    assert show(value(flags, {AT: number.to_bytes(4, "little")})) == shown


def test_text_beyond_ascii_as_the_caller_wishes() -> None:
    assert text("gr\u00fcn".encode()) == '"gr\u00fcn"'
    assert text("gr\u00fcn".encode(), utf8=False) == '"gr\\303\\274n"'


def test_text_cannot_turn_a_terminals_direction() -> None:
    assert text("a\u202eb".encode()) == '"a\\342\\200\\256b"'


@given(st.binary(max_size=80))
def test_a_string_can_be_read_back(data: bytes) -> None:
    """With no run cut short, the escapes are C's: they lead back to the bytes."""
    shown = text(data, repeats=1000, utf8=False)
    assert shown.startswith('"')
    octal = shown[1:-1].encode("ascii").decode("unicode_escape").encode("latin-1")
    assert octal == (data[:-1] if data.endswith(b"\0") else data)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), min_size=1, max_size=30))
def test_every_character_of_runs_is_accounted_for(runs: list[tuple[str, int]]) -> None:
    data = "".join(letter * count for letter, count in runs)
    shown = text(data.encode(), elements=10000)
    expanded = re.sub(r"'(.)' <repeats (\d+) times>", lambda m: m[1] * int(m[2]), shown)
    assert re.sub(r'[", ]', "", expanded) == data


@given(st.floats(width=64, allow_nan=False))
def test_doubles(number: float) -> None:
    bits = struct.unpack("<Q", struct.pack("<d", number))[0]
    form = format_of("double", 8, "x86-64")
    assert form is not None
    assert written(bits, form) == f"{number:.17g}"


@given(st.floats(width=32, allow_nan=False))
def test_floats(number: float) -> None:
    bits = struct.unpack("<I", struct.pack("<f", number))[0]
    form = format_of("float", 4, "x86-64")
    assert form is not None
    assert written(bits, form) == f"{number:.9g}"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="long double is x87's on x86 only")
@given(st.booleans(), st.integers(0, 0x7FFE), st.integers(0, 2**63 - 1))
def test_long_doubles(negative: bool, exponent: int, fraction: int) -> None:
    raw = fraction | bool(exponent) << 63 | exponent << 64 | negative << 79
    form = format_of("long double", 16, "x86-64")
    assert form is not None
    number = ctypes.c_longdouble.from_buffer_copy(raw.to_bytes(16, "little"))
    said = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).snprintf(said, ctypes.c_size_t(64), b"%.21Lg", number)
    assert written(raw, form) == said.value.decode()
