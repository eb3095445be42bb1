"""Values as people read them."""

from __future__ import annotations

import pytest

from vringcore.model.values import Absent, Address, Wide
from vringcore.report.cells import Footnotes, clean, flatten, seconds, size, text_of
from vringcore.report.page import split_header


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (True, "true"),
        (0, "0"),
        (Address(0), "0x0"),
        (Wide(1 << 64), "18446744073709551616"),
        ("", ""),
    ],
)
def test_plain_values(value: object, expected: str) -> None:
    assert text_of(value) == expected


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "0 ms"),
        (850_000_000, "850 ms"),
        (12_340_000_000, "12.3 s"),
        (125_000_000_000, "2 min 05 s"),
        (7_500_000_000_000, "2 h 05 min"),
    ],
)
def test_durations(nanoseconds: int, expected: str) -> None:
    assert seconds(nanoseconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (512, "512 B"), (65536, "64 KiB"), (4112, "4112 B"), (5 << 50, "5120 TiB")],
)
def test_sizes(count: int, expected: str) -> None:
    assert size(count) == expected


def test_equal_reasons_share_a_footnote() -> None:
    notes = Footnotes()
    first = notes.mark(Absent("not-dumped", Address(0x10), "set it"))
    second = notes.mark(Absent("not-dumped", Address(0x20), "set it"))
    third = notes.mark(Absent("truncated"))
    assert (first, second, third) == ("absent[1]", "absent[1]", "absent[2]")
    assert notes.lines() == [
        "[1] absent: not-dumped (first at 0x10) - set it",
        "[2] absent: truncated",
    ]


def test_structures_flatten_to_member_paths() -> None:
    value = {"a": {"b": 1, "c": [{"d": 2}, {"d": 3}]}, "e": [], "f": {}, "g": [5, 5, 6]}
    assert flatten(value, Footnotes()) == [
        ("a.b", "1"),
        ("a.c[0].d", "2"),
        ("a.c[1].d", "3"),
        ("e", "{}"),
        ("f", "{}"),
        ("g", "{5 x 2, 6}"),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inuse", "inuse"),
        ("used_idx", "used\n_idx"),
        ("last_avail_idx", "last_avail\n_idx"),
        ("past_used_event", "past_used\n_event"),
        ("chain of head", "chain of\nhead"),
        ("waits in", "waits in"),
        ("notification", "notification"),
    ],
)
def test_headers_split_where_it_makes_them_narrowest(name: str, expected: str) -> None:
    assert split_header(name) == expected


def test_clean_keeps_letters_of_any_script() -> None:
    assert clean("grün 测试") == "grün 测试"
    assert clean("a\tb\x07\u2028\U000e0001") == r"a\x09b\x07\u2028\U000e0001"
