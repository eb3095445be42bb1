"""Options: sizes, and the way help spells them."""

from __future__ import annotations

import argparse

import pytest

from vringcore.cli.options import byte_count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1K", 1024),
        ("512m", 512 << 20),
        ("20G", 20 << 30),
        ("20GiB", 20 << 30),
        ("3GB", 3 << 30),
        ("2T", 2 << 40),
    ],
)
def test_byte_counts(text: str, expected: int) -> None:
    assert byte_count(text) == expected


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "12Q", "0x10", "iB", "٣", "1KK"])
def test_what_is_no_byte_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no size such as"):
        byte_count(text)
