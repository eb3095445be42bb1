"""Checked walks over QEMU's linked lists and glib's trees of pointers.

``include/qemu/queue.h`` gives every list the same shape for a reader: a head whose first word
points to the first element, and in each element a link whose first word points to the next one.
There is no unchecked walk: every one has a step limit and notices a cycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError, LimitError, VringcoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

MAX_ELEMENTS = 100_000


def walk(
    first: int, next_of: Callable[[int], int], *, what: str, limit: int = MAX_ELEMENTS
) -> Iterator[HostAddress]:
    """Yield the elements of a NULL-terminated list.

    :param first: the first element's address, 0 for an empty list
    :param next_of: reads the address of the next element
    :param what: the list's name, for messages
    :raises CorruptDataError: where the list runs into itself
    :raises LimitError: after ``limit`` elements
    :raises MemoryFault: where a link cannot be read
    """
    seen: set[int] = set()
    address = first
    while address:
        if address in seen:
            raise CorruptDataError(
                f"the list {what} runs into itself",
                where=f"{address:#x}",
                seen=f"element {len(seen)} again",
                expected="a list that ends in NULL",
                hint="the core may have been taken while the list was changed",
            )
        if len(seen) >= limit:
            raise LimitError(
                f"the list {what} was cut", where=f"{address:#x}", seen=f"{limit} elements"
            )
        seen.add(address)
        yield HostAddress(address)
        address = next_of(address)


def collect(items: Iterable[T]) -> tuple[list[T], VringcoreError | None]:
    """Return what a walk gave before it ended, and the error that ended it, if one did."""
    found: list[T] = []
    try:
        for item in items:
            found.append(item)  # noqa: PERF402 - extend() would lose the items before an error
    except VringcoreError as error:
        return found, error
    return found, None
