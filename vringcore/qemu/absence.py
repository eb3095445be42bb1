"""From an error to an :class:`Absent` value: partial truth is kept, with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vringcore.errors import (
    CorruptDataError,
    LayoutMissingError,
    LimitError,
    MemoryFault,
    VringcoreError,
)
from vringcore.model.values import Absent, Address

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

NOT_IN_THIS_BUILD = "not-in-this-build"
CORRUPT = "corrupt"
CUT_BY_LIMIT = "cut-by-limit"


def absence_of(error: VringcoreError) -> Absent:
    """Return the absent value that stands for a failed read."""
    if isinstance(error, MemoryFault):
        return Absent(error.gap.kind.value, Address(error.address), error.gap.hint)
    if isinstance(error, LayoutMissingError):
        return Absent(NOT_IN_THIS_BUILD, None, str(error))
    if isinstance(error, CorruptDataError):
        return Absent(CORRUPT, None, str(error))
    if isinstance(error, LimitError):
        return Absent(CUT_BY_LIMIT, None, str(error))
    return Absent(error.code, None, str(error))


def attempt(read: Callable[[], T]) -> T | Absent:
    """Return what ``read`` gives, or why it could not be had."""
    try:
        return read()
    except VringcoreError as error:
        return absence_of(error)
