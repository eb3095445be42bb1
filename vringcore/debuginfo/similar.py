"""Names like another one, cut from a string section without a look at what has them."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING

from vringcore.debuginfo.occurrences import occurrences

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

MIN_SIZE = 4
"""Bytes of the shortest name whose halves are worth seeking."""

MIN_LONG = 9
"""Bytes of a name whose thirds are long enough to be sought."""

MAX_HITS = 1 << 14

MISTAKES = 2
"""Letters too many or too few before what is right."""


def similar_names(strings: bytes, name: bytes, starts: Container[int] = ()) -> list[bytes]:
    """Return strings that share a third of a name, letters taken as lower case.

    Whoever made two mistakes in a name left one of its thirds as it is, and one of the halves of a
    short one who made one.

    :param starts: where strings start, too: linkers keep a string at the end of a longer one
    """
    lower = strings.lower()
    places: dict[tuple[int, int], None] = {}
    for begin, part in _parts(name.lower()):
        for at in islice(occurrences(part, lower), MAX_HITS):
            start, end = strings.rfind(0, 0, at) + 1, strings.find(0, at)
            end = end if end >= 0 else len(strings)
            places[start, end] = None
            for tail in range(max(start, at - begin - MISTAKES), at - begin + MISTAKES + 1):
                if tail in starts and tail <= at:
                    places[tail, end] = None
    return [strings[start:end] for start, end in places]


def _parts(name: bytes) -> Iterator[tuple[int, bytes]]:
    count = 3 if len(name) >= MIN_LONG else 2 if len(name) >= MIN_SIZE else 0
    bounds = [number * len(name) // count for number in range(count + 1)] if count else []
    for begin, end in pairwise(bounds):
        yield begin, name[begin:end]
