"""What leads to a coroutine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.model.requests import Waiting
from vringcore.model.values import Address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Rank = tuple[int, int]

OUTERMOST: Rank = (-3, 0)
INNERMOST: Rank = (1 << 30, 0)


class Lead(msgspec.Struct, frozen=True):
    """A structure that names a coroutine.

    :param found_by: what kind of structure it is, as the model names it
    :param waiting: the place where the coroutine waits, None where it does not wait there
    :param rank: how far inwards that is
    :param certain: the structure never names a coroutine that has ended
    """

    coroutine: int
    found_by: str
    waiting: Waiting | None = None
    rank: Rank = INNERMOST
    certain: bool = True


def waiting_leads(
    coroutines: Iterable[int], found_by: str, address: int, detail: str, node: str = ""
) -> Iterator[Lead]:
    """Yield a lead to each coroutine of a queue at ``address``."""
    for coroutine in coroutines:
        yield Lead(coroutine, found_by, Waiting(found_by, Address(address), node, detail))
