"""Circles in graphs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vringcore.diagnose.cycles import cycles

EDGES = st.lists(st.tuples(*(2 * [st.integers(0, 7).map(str)])), max_size=20)


def test_a_chain_has_none() -> None:
    assert cycles([("a", "b"), ("b", "c"), ("a", "c")]) == ()


def test_each_is_given_once_from_its_least_node_on() -> None:
    assert cycles([("c", "a"), ("b", "c"), ("a", "b"), ("x", "x"), ("c", "d")]) == (
        ("a", "b", "c"),
        ("x",),
    )


def test_a_very_long_one_is_found() -> None:
    count = 50_000
    edges = [(f"{i:06}", f"{(i + 1) % count:06}") for i in range(count)]
    assert len(cycles(edges)[0]) == count


def reaches(edges: list[tuple[str, str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [end for begin, end in edges if begin == start]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [end for begin, end in edges if begin == node]
    return found


@given(EDGES)
def test_a_node_that_reaches_itself_is_in_a_component_with_a_circle(
    edges: list[tuple[str, str]],
) -> None:
    found = cycles(edges)
    for circle in found:
        steps = zip(circle, (*circle[1:], circle[0]), strict=True)
        assert all(step in edges for step in steps)
    on_some = {node for begin, _ in edges for node in (begin,) if begin in reaches(edges, begin)}
    mutual = {
        frozenset(n for n in on_some if n in reaches(edges, m) or n == m)
        & frozenset(n for n in on_some if m in reaches(edges, n) or n == m)
        for m in on_some
    }
    assert len(found) == len(mutual)
