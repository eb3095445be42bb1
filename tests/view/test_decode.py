"""Whole structures as plain values."""

from __future__ import annotations

from typing import Any

import pytest

from tests.view.memory import Memory, Names, views_of, word
from vringcore.errors import CorruptDataError, LayoutMissingError
from vringcore.layout.types import (
    Array,
    Base,
    Enum,
    Member,
    Named,
    Pointer,
    Qualified,
    Record,
    Type,
    Typedef,
    Void,
)
from vringcore.model.values import Absent, Address, EnumValue, Wide, encode
from vringcore.model.values import Pointer as PointerValue

U8 = Base("unsigned char", 1, "unsigned-char")
U32 = Base("unsigned int", 4, "unsigned")
S32 = Base("int", 4, "signed")
U64 = Base("unsigned long", 8, "unsigned")
CHAR = Base("char", 1, "char")
BOOL = Base("_Bool", 1, "bool")
INT128 = Base("__int128", 16, "signed")


def decode(type_: Type, data: bytes, *more: Any, big_endian: bool = False, **kwargs: Any) -> Any:
    memory = Memory()
    memory.put(0x1000, data)
    views = views_of(memory, more, big_endian=big_endian, **kwargs)
    return views.value(type_, 0x1000).read()


def struct_of(*members: Member, size: int = 8) -> Record:
    return Record("struct", None, size, members)


def test_bit_fields_count_from_the_low_bit_of_a_little_endian_word() -> None:
    record = struct_of(
        Member("a", U32, 0, 3, 0), Member("b", S32, 0, 5, 3), Member("c", BOOL, 1, 1, 2), size=4
    )
    # a = 5, b = -2, c = 1
    data = (5 | (0b11110 << 3) | (1 << 10)).to_bytes(4, "little")
    assert decode(record, data) == {"a": 5, "b": -2, "c": True}


def test_bit_fields_count_from_the_high_bit_of_a_big_endian_word() -> None:
    record = struct_of(Member("a", U32, 0, 3, 0), Member("b", S32, 0, 5, 3), size=4)
    data = bytes([0b101_11110, 0, 0, 0])
    assert decode(record, data, big_endian=True) == {"a": 5, "b": -2}


def test_members_of_unnamed_members_belong_to_the_parent() -> None:
    union = Record("union", None, 8, (Member("word", U64, 0), Member("half", U32, 0)))
    record = struct_of(Member(None, union, 0), Member("after", U32, 8), size=16)
    data = word(0x1_0000_0002) + (7).to_bytes(4, "little") + bytes(4)
    assert decode(record, data) == {"word": 0x1_0000_0002, "half": 2, "after": 7}


def test_feature_words_and_hwaddr_are_addresses() -> None:
    hwaddr = Typedef("hwaddr", U64)
    record = struct_of(
        Member("desc", Named("typedef", "hwaddr"), 0),
        Member("guest_features", U64, 8),
        Member("host_features_ex", Array(U64, 2), 16),
        Member("plain", U64, 32),
        size=40,
    )
    data = b"".join(word(n) for n in (0xFFFF_FFFF_FFFF_F000, 1 << 63, 1, 2, 3))
    fields = decode(record, data, hwaddr)
    assert isinstance(fields["desc"], Address)
    assert fields["desc"] == 0xFFFF_FFFF_FFFF_F000
    assert isinstance(fields["guest_features"], Address)
    assert [type(n) for n in fields["host_features_ex"]] == [Address, Address]
    assert type(fields["plain"]) is int
    assert encode(fields["desc"]) == b'"0xfffffffffffff000"'


def test_enumerators_have_names_and_unknown_numbers_none() -> None:
    enum = Enum("State", 4, False, {"OFF": 0, "ON": 1, "ALIAS": 1})
    record = struct_of(Member("now", Named("enum", "State"), 0), Member("next", enum, 4))
    data = (1).to_bytes(4, "little") + (9).to_bytes(4, "little")
    assert decode(record, data, enum) == {"now": EnumValue(1, "ON"), "next": EnumValue(9, None)}


def test_char_arrays_are_text_and_bytes_are_numbers() -> None:
    record = struct_of(Member("name", Array(CHAR, 8), 0), Member("mac", Array(U8, 3), 8), size=11)
    fields = decode(record, b"ab\xff\nc\0\0\0" + bytes([1, 2, 255]))
    assert fields == {"name": "ab\\xff\\x0ac", "mac": [1, 2, 255]}


def test_a_bool_that_is_neither_shows_its_byte() -> None:
    record = struct_of(Member("a", BOOL, 0), Member("b", BOOL, 1), Member("c", BOOL, 2), size=3)
    fields = decode(record, bytes([0, 1, 7]))
    assert (fields["a"], fields["b"], fields["c"]) == (False, True, 7)
    assert type(fields["c"]) is int


def test_integers_wider_than_64_bits_are_strings_in_json() -> None:
    value = decode(INT128, (-(1 << 100)).to_bytes(16, "little", signed=True))
    assert value == -(1 << 100)
    assert isinstance(value, Wide)
    assert encode(value) == f'"{-(1 << 100)}"'.encode()


def test_pointers_carry_a_symbol_only_inside_its_size() -> None:
    names = Names({0x5000: ("handler", 16)})
    inside, behind = 0x5008, 0x5010
    record = struct_of(Member("f", Pointer(Void()), 0), Member("g", Pointer(Void()), 8), size=16)
    fields = decode(record, word(inside) + word(behind), names=names)
    assert fields["f"] == PointerValue(Address(inside), "handler", 8)
    assert fields["g"] == PointerValue(Address(behind))


def test_qualifiers_arrays_of_arrays_and_flexible_arrays() -> None:
    record = struct_of(
        Member("grid", Array(Array(Qualified("const", U8), 2), 2), 0),
        Member("tail", Array(U32, None), 4),
        size=4,
    )
    assert decode(record, bytes([1, 2, 3, 4])) == {"grid": [[1, 2], [3, 4]], "tail": []}


def test_a_hole_makes_only_its_members_absent() -> None:
    memory = Memory()
    record = struct_of(Member("a", U32, 0), Member("b", U32, 4), Member("c", U32, 8), size=12)
    memory.put(0x1000, bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]))
    memory.take(0x1005, 2)
    fields = views_of(memory, []).value(record, 0x1000).read()
    assert fields["a"] == 1
    assert fields["c"] == 3
    assert fields["b"] == Absent("not-dumped", Address(0x1004), "dump it")


def test_an_unknown_struct_inside_is_named() -> None:
    record = struct_of(Member("inner", Named("struct", "Unheard"), 0))
    with pytest.raises(LayoutMissingError, match="struct Unheard"):
        decode(record, bytes(8))


def test_an_array_of_absurd_size_is_refused_before_anything_is_read() -> None:
    with pytest.raises(CorruptDataError):
        decode(Array(U64, 1 << 40), b"")
