"""Bundles: what is written is read again, and damage is refused."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vringcore.errors import LayoutError
from vringcore.layout.bundle import Bundle, Typed, from_json, get_type, key_of, put_type, to_json
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
    Symbol,
    Type,
    Typedef,
    Variable,
    Void,
)

NAMES = st.text("abcXYZ_019", min_size=1, max_size=8)
NUMBERS = st.integers(0, 2**64 - 1)
LEAVES: st.SearchStrategy[Type] = st.one_of(
    st.just(Void()),
    st.builds(Base, NAMES, st.integers(0, 16), st.sampled_from(["signed", "char", "bool"])),
    st.builds(Named, st.sampled_from(["struct", "union", "enum", "typedef"]), NAMES),
)


def _deeper(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    members = st.builds(
        Member, st.none() | NAMES, inner, NUMBERS, st.none() | st.integers(0, 64), st.integers(0, 7)
    )
    return st.one_of(
        st.builds(Pointer, inner, st.sampled_from([4, 8])),
        st.builds(Array, inner, st.none() | NUMBERS),
        st.builds(Qualified, st.sampled_from(["const", "_Atomic"]), inner),
        st.builds(Function, inner, st.lists(inner, max_size=2).map(tuple), st.booleans()),
        st.builds(
            Record,
            st.sampled_from(["struct", "union"]),
            st.none() | NAMES,
            NUMBERS,
            st.lists(members, max_size=3).map(tuple),
        ),
    )


TYPES = st.recursive(LEAVES, _deeper, max_leaves=8)
VALUES = st.integers(-(2**63), 2**64 - 1)
ENUMS = st.builds(
    Enum, NAMES, st.integers(1, 8), st.booleans(), st.dictionaries(NAMES, VALUES, max_size=4)
)
DEFINITIONS: st.SearchStrategy[Definition] = st.one_of(
    st.builds(Typedef, NAMES, TYPES),
    ENUMS,
    TYPES.filter(lambda t: isinstance(t, Record) and t.name is not None),  # type: ignore[arg-type]
)


@given(DEFINITIONS, TYPES, NUMBERS)
def test_what_is_written_is_read_again(definition: Definition, type_: Type, number: int) -> None:
    bundle = Bundle(build_id="ab" * 20, machine="x86-64", searched_absent=["struct Gone"])
    key = key_of(definition)
    put_type(bundle, key, Typed(definition, "a.c"))
    bundle.variables["b.c::v"] = Variable("v", number, type_, unit="b.c", thread_local=True)
    bundle.symbols_at["10"] = None
    bundle.symbols_at["20"] = Symbol("main", number, 4)
    again = from_json(to_json(bundle))
    assert get_type(again, key) == Typed(definition, "a.c")
    assert again.variables == bundle.variables
    assert again.symbols_at == bundle.symbols_at
    assert (again.build_id, again.machine) == (bundle.build_id, bundle.machine)
    assert again.searched_absent == ["struct Gone"]
    assert get_type(again, "struct NeverAsked") is None


def small_bundle() -> bytes:
    bundle = Bundle(build_id="cd" * 20, wanted=["1"])
    record = Record("struct", "S", 8, (Member("m", Pointer(Void()), 0),))
    put_type(bundle, "struct S", Typed(record, "s.c"))
    bundle.variables["v"] = Variable("v", 16, Named("struct", "S"))
    return to_json(bundle)


def read(data: bytes) -> None:
    bundle = from_json(data)
    for key in bundle.types:
        get_type(bundle, key)


def test_a_bundle_cut_anywhere_is_refused() -> None:
    whole = small_bundle()
    read(whole)
    for size in range(len(whole)):
        with pytest.raises(LayoutError, match="damaged"):
            read(whole[:size])


@given(st.data())
def test_a_bundle_with_bytes_changed_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(small_bundle())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(LayoutError):
        read(bytes(damaged))


def test_another_schema_is_refused() -> None:
    document = json.loads(small_bundle())
    document["schema"] = "vringcore/layout/999"
    with pytest.raises(LayoutError, match="vringcore/layout/999"):
        from_json(json.dumps(document).encode())


def test_a_type_under_anothers_key_is_refused() -> None:
    document = json.loads(small_bundle())
    document["types"]["struct Other"] = document["types"].pop("struct S")
    bundle = from_json(json.dumps(document).encode())
    with pytest.raises(LayoutError, match="another's name"):
        get_type(bundle, "struct Other")


def test_a_type_nested_without_end_is_refused() -> None:
    deep = b'{"t":"ptr","to":' * 100_000
    with pytest.raises(LayoutError):
        read(b'{"types":{"struct S":{"definition":' + deep)
    closed = deep + b'{"t":"void"}' + b"}" * 100_000
    definition = b'{"t":"typedef","name":"T","type":' + closed + b"}"
    with pytest.raises(LayoutError):
        read(b'{"types":{"typedef T":{"definition":' + definition + b"}}}")
