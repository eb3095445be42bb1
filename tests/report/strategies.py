"""Any document of the model, for property tests: a strategy from a struct's type hints."""

from __future__ import annotations

import inspect
import types
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from vringcore.model.schema import resolve_names
from vringcore.model.values import Absent, Address, EnumValue, Pointer, Wide

ADDRESSES = st.integers(0, 2**64 - 1).map(Address)
# As much text as a hostile core could hold: controls, escapes, markup, no lone surrogates.
TEXTS = st.one_of(
    st.sampled_from(["", "disk0", "[bold]x[/bold]", "\x1b[31mred", "a\nb", "gr\u00fcn \u2603"]),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
ABSENT = st.builds(
    Absent,
    st.sampled_from(["not-dumped", "truncated", "not-in-this-build"]),
    st.none() | ADDRESSES,
    TEXTS,
)
FIELD_LEAVES = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    ADDRESSES,
    st.integers(2**64, 2**128 - 1).map(Wide),
    st.builds(EnumValue, st.integers(0, 9), st.none() | TEXTS),
    st.builds(Pointer, ADDRESSES, st.none() | TEXTS, st.integers(0, 4096)),
    ABSENT,
)
FIELDS = st.dictionaries(
    st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
    st.recursive(
        FIELD_LEAVES,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        ),
        max_leaves=4,
    ),
    max_size=3,
)


FEW = 9
"""Members that may be left out; of a struct with more one is there at a time, to save time."""

resolve_names()


@cache
def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for any value that a type hint of the model allows."""
    if hint is Absent:
        return ABSENT
    if inspect.isclass(hint) and issubclass(hint, msgspec.Struct):
        return _struct(hint)
    simple = {
        str: TEXTS,
        int: st.integers(0, 2**32),
        bool: st.booleans(),
        float: st.floats(0, 2**40),
        type(None): st.none(),
        msgspec.UnsetType: st.just(msgspec.UNSET),
    }
    if hint is Any:
        return FIELD_LEAVES
    if hint in simple:
        return simple[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([any_of(each) for each in arguments])
    if origin is Annotated:
        return ADDRESSES  # the only annotated type of the model is Hex
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(any_of(arguments[0]), max_size=2).map(tuple)
    if hint == dict[str, Any]:
        return FIELDS
    if origin is dict:
        return st.dictionaries(TEXTS, any_of(arguments[1]), max_size=2)
    raise TypeError(f"no strategy for {hint!r}")


def _struct(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    parts = {
        field.name: any_of(field.type)
        for field in msgspec.structs.fields(struct)
        if field.name != "schema"
    }
    optional = [
        field.name for field in msgspec.structs.fields(struct) if field.default is msgspec.UNSET
    ]
    if len(optional) <= FEW:
        return st.builds(struct, **parts)
    rest = {name: strategy for name, strategy in parts.items() if name not in optional}
    return st.sampled_from(optional).flatmap(
        lambda chosen: st.builds(struct, **rest, **{chosen: parts[chosen]})
    )
