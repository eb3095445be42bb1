"""Ring indices wrap; the expected numbers are counted step by step, not computed the same way."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vringcore import ring_math

indices = st.integers(0, 65535)
wrapping = st.integers(65000, 65535) | st.integers(0, 500)


def walk(start: int, steps: int) -> list[int]:
    """Return the values an index takes on its way, one step at a time."""
    values = [start]
    for _ in range(steps):
        values.append(0 if values[-1] == 65535 else values[-1] + 1)
    return values


@given(wrapping, st.integers(0, 1000))
def test_distance_is_the_number_of_steps(start: int, steps: int) -> None:
    end = walk(start, steps)[-1]
    assert ring_math.distance(end, start) == steps
    assert ring_math.advance(start, steps) == end
    assert ring_math.advance(end, -steps) == start


@given(indices, indices)
def test_a_distance_is_never_negative(newer: int, older: int) -> None:
    assert 0 <= ring_math.distance(newer, older) <= 65535


def test_wrap_around() -> None:
    assert ring_math.advance(65535) == 0
    assert ring_math.distance(0, 65535) == 1
    # As Python integers this is -65534: one of the indices has wrapped, the other has not.
    assert ring_math.distance(1, 65535) == 2


@given(wrapping, st.integers(0, 40), indices)
def test_need_event_is_true_if_the_event_is_among_the_entries_added_2_7_7(
    old: int, steps: int, far: int
) -> None:
    added = walk(old, steps)
    for event in (*added, far):
        assert ring_math.need_event(event, added[-1], old) == (event in added[:-1])


@given(st.integers(0, 15).map(lambda bits: 1 << bits), wrapping, st.integers(0, 1000))
def test_slots_of_a_power_of_two_follow_each_other_across_wrap_around_2_7(
    size: int, start: int, steps: int
) -> None:
    path = [ring_math.slot(idx, size) for idx in walk(start, steps)]
    assert all(b == (a + 1) % size for a, b in pairwise(path))


def test_slot_of_another_size_jumps_at_wrap_around() -> None:
    assert (ring_math.slot(65535, 6), ring_math.slot(0, 6)) == (3, 0)


@given(st.integers(1, 300), st.integers(0, 600), st.data())
def test_packed_distance_is_the_number_of_steps_2_8_1(
    size: int, start: int, data: st.DataObject
) -> None:
    steps = data.draw(st.integers(0, size))
    (older_lap, older), (newer_lap, newer) = divmod(start, size), divmod(start + steps, size)
    wrapped = older_lap != newer_lap  # at most one lap in a ring of this size
    assert ring_math.packed_distance(newer, older, size, wrapped=wrapped) == steps


@pytest.mark.parametrize(("newer", "older", "wrapped"), [(3, 5, False), (5, 3, True)])
def test_packed_positions_that_cannot_both_be_true(
    newer: int, older: int, *, wrapped: bool
) -> None:
    assert not 0 <= ring_math.packed_distance(newer, older, 8, wrapped=wrapped) <= 8
