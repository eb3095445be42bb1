"""Counts from free-running 16-bit indices; the values are the ones a person would count."""

from __future__ import annotations

import pytest

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
