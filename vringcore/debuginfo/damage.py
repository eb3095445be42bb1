"""What damaged input makes the readers raise, and its place among our errors.

The readers index and unpack without asking first whether the bytes are there: for millions of
entries the question would cost more than the reading. So these exceptions mean damage.
"""

from __future__ import annotations

from functools import wraps
from struct import error as struct_error
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

DAMAGE = (IndexError, ValueError, struct_error, RecursionError, OverflowError, MemoryError)
"""ValueError: of ``bytes.index``, where a string does not end."""


def damaged(error: BaseException) -> DwarfError:
    """Return the error to raise in place of one of :data:`DAMAGE`."""
    return DwarfError("damaged debug information", seen=f"{type(error).__name__}: {error}")


def ours(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function raise DwarfError for what is damaged."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except DAMAGE as error:
            raise damaged(error) from error

    return guarded
