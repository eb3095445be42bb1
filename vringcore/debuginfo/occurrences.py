"""Every place of some bytes in others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def occurrences(wanted: bytes, data: bytes) -> Iterator[int]:
    """Yield where ``wanted`` starts in ``data``, overlapping places included.

    Names are sought by their places in a string section, four bytes: for so few, the regular
    expressions are more than three times as fast as :meth:`bytes.find`.
    """
    from re import compile as compiled
    from re import escape

    search = compiled(escape(wanted)).search
    hit = search(data)
    while hit is not None:
        at = hit.start()
        yield at
        hit = search(data, at + 1)
