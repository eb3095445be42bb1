"""What a rule is, and the table of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from vringcore.model.findings import Finding

if TYPE_CHECKING:
    from vringcore.diagnose.facts import Facts

Check = Callable[["Facts"], Iterable[Finding]]


class Rule(msgspec.Struct, frozen=True):
    """One conclusion, and how it is reached.

    :param code: of its findings, and of no other's
    :param clear: what holds if it finds nothing; rules about the same thing share it
    :param needs: the parts of a report that it cannot do without
    :param rank: of two findings that are equally sure the one with the lower rank decides: the
        nearer to what an operator sees, the lower
    :param effect: it says what waits for something else that is stuck: it decides if nothing else
        does
    """

    code: str
    clear: str
    needs: tuple[str, ...]
    rank: int
    effect: bool
    check: Check

    @property
    def text(self) -> str:
        """What the conclusion means, what it rests on, and how it can be wrong."""
        return inspect.cleandoc(self.check.__doc__ or "")


def rule(
    clear: str, *, needs: tuple[str, ...], rank: int, effect: bool = False
) -> Callable[[Check], Rule]:
    """Make a rule of a function; its name, with hyphens, is the code."""

    def decorate(check: Check) -> Rule:
        code = str(getattr(check, "__name__", "")).replace("_", "-")
        return Rule(code, clear, needs, rank, effect, check)

    return decorate
