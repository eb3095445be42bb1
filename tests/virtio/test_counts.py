"""Counts from free-running 16-bit indices; the values are the ones a person would count."""

from __future__ import annotations

import pytest

from vringcore import ring_math
from vringcore.virtio import counts


@pytest.mark.parametrize(
    ("avail_idx", "last_avail_idx", "expected"),
    [(7, 7, 0), (9, 7, 2), (0, 65535, 1), (3, 65530, 9), (65535, 0, 65535)],
)
def test_unseen(avail_idx: int, last_avail_idx: int, expected: int) -> None:
    assert counts.unseen(avail_idx, last_avail_idx) == expected


def test_popped_of_a_hung_queue() -> None:
    # A real case: last_avail_idx 46481, used_idx 46479, inuse 2.
    assert counts.popped(46481, 46479) == 2
    assert counts.leaked(counts.popped(46481, 46479), 2) == 0


def test_wrap_around_of_one_index_and_not_the_other() -> None:
    # Subtracting Python integers says -65534 here; guest-side tools have printed that.
    avail_idx, used_idx = 1, 65535
    assert counts.popped(avail_idx, used_idx) == 2
    assert counts.popped(avail_idx, used_idx) != avail_idx - used_idx


def test_leaked_says_both_directions() -> None:
    assert counts.leaked(128, 0) == 128
    assert counts.leaked(1, 3) == -2


def test_past_used_event() -> None:
    assert counts.past_used_event(5, 5) == 0
    assert counts.past_used_event(2, 65534) == 4


@pytest.mark.parametrize(
    ("event", "new", "old", "expected"),
    [
        (5, 6, 5, True),  # entry 5 was added
        (5, 5, 4, False),  # entry 4 was added
        (4, 6, 3, True),
        (6, 6, 3, False),
        (2, 6, 3, False),
        (65535, 0, 65535, True),  # entry 65535 was added
        (65535, 1, 0, False),
        (0, 2, 65534, True),
        (7, 7, 7, False),  # nothing was added
    ],
)
def test_need_event_2_7_10(event: int, new: int, old: int, *, expected: bool) -> None:
    assert ring_math.need_event(event, new, old) is expected


@pytest.mark.parametrize(
    ("idx", "size", "slot"), [(0, 8, 0), (65535, 8, 7), (65535, 6, 3), (256, 256, 0)]
)
def test_slot(idx: int, size: int, slot: int) -> None:
    assert ring_math.slot(idx, size) == slot


def test_advance_goes_both_ways() -> None:
    assert ring_math.advance(65535) == 0
    assert ring_math.advance(65530, 10) == 4
    assert ring_math.advance(1, -3) == 65534
