"""List walks that cannot run away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view.memory import Memory, views_of, word
from vringcore.errors import CorruptDataError, LimitError, MemoryFault
from vringcore.layout.types import Base, Member, Named, Pointer, Record
from vringcore.view.declare import View, integer
from vringcore.view.lists import collect, walk
from vringcore.view.views import Views

U64 = Base("unsigned long", 8, "unsigned")
LINK = Record("struct", "Link", 16, (Member("next", Pointer(Named("struct", "Element")), 0),))
ELEMENT = Record(
    "struct",
    "Element",
    32,
    (Member("value", U64, 0), Member("link", Named("struct", "Link"), 16)),
)
HEAD = 0x100


class Element(View):
    c_type = "struct Element"

    value = integer()


def chain(addresses: list[int]) -> tuple[Memory, Views]:
    """Lay out a list with elements at these addresses, each holding its number."""
    memory = Memory()
    memory.put(HEAD, word(addresses[0] if addresses else 0))
    for number, address in enumerate(addresses):
        following = addresses[number + 1] if number + 1 < len(addresses) else 0
        memory.put(address, word(number) + bytes(8) + word(following) + bytes(8))
    return memory, views_of(memory, [ELEMENT, LINK])


@given(st.lists(st.integers(16, 4000), unique=True, max_size=40))
def test_a_walk_gives_the_elements_in_their_order(numbers: list[int]) -> None:
    _memory, views = chain([number * 64 for number in numbers])
    found = list(views.elements(HEAD, Element, "link"))
    assert [int(e.address_) for e in found] == [number * 64 for number in numbers]
    assert [e.value for e in found] == list(range(len(numbers)))


def test_a_cycle_is_an_error_after_what_was_seen() -> None:
    memory, views = chain([0x1000, 0x2000, 0x3000])
    memory.put(0x3010, word(0x2000))
    found, error = collect(views.elements(HEAD, Element, "link"))
    assert [int(e.address_) for e in found] == [0x1000, 0x2000, 0x3000]
    assert isinstance(error, CorruptDataError)
    assert "0x2000" in str(error)


def test_a_limit_ends_a_walk() -> None:
    _memory, views = chain([0x1000, 0x2000, 0x3000])
    found, error = collect(views.elements(HEAD, Element, "link", limit=2))
    assert len(found) == 2
    assert isinstance(error, LimitError)


def test_a_link_into_a_hole_ends_a_walk() -> None:
    memory, views = chain([0x1000, 0x2000])
    memory.put(0x2010, word(0xDEAD_0000))
    found, error = collect(views.elements(HEAD, Element, "link"))
    assert [int(e.address_) for e in found] == [0x1000, 0x2000, 0xDEAD_0000]
    assert isinstance(error, MemoryFault)


def test_a_head_that_is_not_there() -> None:
    memory, views = chain([])
    memory.take(HEAD, 8)
    found, error = collect(views.elements(HEAD, Element, "link"))
    assert found == []
    assert isinstance(error, MemoryFault)


def test_an_element_that_points_to_itself() -> None:
    with pytest.raises(CorruptDataError, match="element 1 again"):
        list(walk(8, lambda address: address, what="of test"))
