"""Names that may have been meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_SHOWN = 4
MAX_COMPARED = 50_000


MAX_TRIED = 8


def hint_of(
    name: str, names: Iterable[str], is_meant: Callable[[str], bool] = lambda _name: True
) -> str:
    """Return a sentence with the names most like one, "" if none is; see :func:`near`."""
    found = near(name, names, is_meant)
    return "there is " + ", ".join(found) if found else ""


def near(
    name: str, names: Iterable[str], is_meant: Callable[[str], bool] = lambda _name: True
) -> list[str]:
    """Return the names most like one, the best first.

    :param is_meant: tells whether a name is one of those that can be meant; asked only of a few
    """
    from difflib import get_close_matches

    names = set(names)
    size = len(name)
    # Names much longer or shorter cannot be close, and comparing costs.
    close = {n for n in names if abs(len(n) - size) <= max(2, size // 3)}
    folded = sorted(n for n in close if n.lower() == name.lower())
    folded += sorted((n for n in names if n.startswith(name)), key=lambda n: (len(n), n))[:2]
    matched = get_close_matches(name, sorted(close)[:MAX_COMPARED], MAX_TRIED, 0.7)
    tried = list(dict.fromkeys([*folded, *matched]))[:MAX_TRIED]
    return [n for n in tried if is_meant(n)][:MAX_SHOWN]
