"""Sizes, members and resolution of types written by hand from the C standard's rules."""

from __future__ import annotations

import pytest

from vringcore.errors import LayoutError, LayoutMissingError, UsageError
from vringcore.layout.access import parse_path
from vringcore.layout.bundle import Bundle, Typed, put_type
from vringcore.layout.provider import Layouts
from vringcore.layout.types import (
    Array,
    Base,
    Definition,
    Enum,
    Function,
    Member,
    Named,
    Pointer,
    Qualified,
    Record,
    Typedef,
    Void,
)

INT = Base("int", 4, "signed")
CHAR = Base("char", 1, "char")


def layouts_with(**definitions: Definition) -> Layouts:
    bundle = Bundle(build_id="ab" * 20)
    for key, definition in definitions.items():
        put_type(bundle, key.replace("_", " ", 1), Typed(definition))
    return Layouts(bundle)


VRING = Record("struct", "VRing", 16, (Member("num", INT, 0), Member("desc", INT, 8)))
INNER = Record("union", None, 8, (Member("low", INT, 0), Member("words", Array(INT, 2), 0)))
OUTER = Record(
    "struct",
    "Outer",
    64,
    (
        Member("vring", Named("typedef", "VRing"), 0),
        Member(None, INNER, 16),
        Member("rings", Array(Array(Named("struct", "VRing"), 2), 1), 24),
        Member("flag", INT, 56, bit_size=3, bit_offset=2),
        Member(None, INT, 57, bit_size=4),
        Member("tail", Array(CHAR, None), 60),
    ),
)


@pytest.fixture
def layouts() -> Layouts:
    return layouts_with(
        struct_VRing=VRING,
        typedef_VRing=Typedef("VRing", Qualified("const", Named("struct", "VRing"))),
        struct_Outer=OUTER,
    )


def test_members_are_found_by_path(layouts: Layouts) -> None:
    assert layouts.member(OUTER, "vring") == (0, Named("typedef", "VRing"), None)
    assert layouts.member(OUTER, "vring.desc") == (8, INT, None)
    assert layouts.member(OUTER, "rings[0][1].desc") == (24 + 16 + 8, INT, None)
    assert layouts.member(OUTER, "flag") == (56, INT, (3, 2))
    assert layouts.member(OUTER, "tail[3]") == (63, CHAR, None)


def test_members_of_an_unnamed_union_are_the_parents(layouts: Layouts) -> None:
    assert layouts.member(OUTER, "low") == (16, INT, None)
    assert layouts.member(OUTER, "words[1]") == (20, INT, None)


@pytest.mark.parametrize(
    "path", ["none", "vring.none", "low.none", "rings[1]", "rings[0][2]", "flag[0]", "vring[0]"]
)
def test_what_is_not_there_is_none(layouts: Layouts, path: str) -> None:
    assert layouts.member(OUTER, path) is None


@pytest.mark.parametrize(
    "path", ["", ".", "a.", "a[", "a[]", "a[-1]", "a[x]", "a[1", "[0]", "a[9999999999999999999]"]
)
def test_a_path_that_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(UsageError):
        parse_path(path)


def test_sizes(layouts: Layouts) -> None:
    for type_, size in (
        (INT, 4),
        (Pointer(Void(), 4), 4),
        (Array(Array(INT, 3), 2), 24),
        (Array(INT, None), 0),
        (Array(INT, 0), 0),
        (Named("typedef", "VRing"), 16),
        (Array(Qualified("volatile", Named("struct", "VRing")), 3), 48),
        (Enum(None, 1, False, {}), 1),
        (Void(), 1),
        (Function(Void()), 1),
    ):
        assert layouts.size_of(type_) == size


def test_resolution_strips_typedefs_and_qualifiers(layouts: Layouts) -> None:
    assert layouts.resolve(Qualified("const", Named("typedef", "VRing"))) == VRING
    assert layouts.resolve(Pointer(Named("struct", "Gone"))) == Pointer(Named("struct", "Gone"))


def test_an_unknown_name_is_named(layouts: Layouts) -> None:
    with pytest.raises(LayoutMissingError, match="struct Gone is not known"):
        layouts.size_of(Named("struct", "Gone"))


def test_types_that_lead_back_to_themselves_are_refused() -> None:
    layouts = layouts_with(
        typedef_A=Typedef("A", Named("typedef", "B")),
        typedef_B=Typedef("B", Qualified("const", Named("typedef", "A"))),
    )
    with pytest.raises(LayoutError, match="back to itself"):
        layouts.resolve(Named("typedef", "A"))


def test_an_unnamed_member_that_holds_itself_is_refused() -> None:
    loop = Record("struct", "S", 4, (Member(None, Named("struct", "S"), 0),))
    layouts = layouts_with(struct_S=loop)
    with pytest.raises(LayoutError, match="nested too deeply"):
        layouts.member(loop, "x")
