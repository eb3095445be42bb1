"""Locks that are held or waited for, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from vringcore.report.cells import NOTHING, hexadecimal
from vringcore.report.page import STAND_OUT, Column, column_of

if TYPE_CHECKING:
    from vringcore.model.locks import Lock
    from vringcore.model.report import Report
    from vringcore.report.page import Page


def print_locks(page: Page, report: Report, *, detailed: bool) -> None:  # noqa: ARG001
    """Print every lock that is held or waited for."""
    locks = () if report.locks is UNSET else report.locks
    if not locks:
        page.line("No lock is held or waited for, as far as locks could be found.")
        return
    page.table(
        [
            column_of("lock", [each.name or None for each in locks], numeric=False),
            column_of("kind", [each.kind for each in locks], numeric=False),
            column_of("held by", [_owner(each) for each in locks], numeric=False),
            Column("waited for by", [_waiters(each) for each in locks], foldable=True),
            column_of("locked at", [each.locked_at for each in locks], 1, numeric=False),
            column_of("address", [each.address for each in locks], 2),
        ],
        [STAND_OUT if each.waiters or each.waiting_coroutines else "" for each in locks],
    )


def _owner(lock: Lock) -> object:
    if lock.owner_coroutine is not None:
        return f"coroutine {hexadecimal(lock.owner_coroutine)}"
    return f"thread {lock.owner}" if isinstance(lock.owner, int) else lock.owner


def _waiters(lock: Lock) -> str:
    told = [f"thread {each}" for each in lock.waiters]
    told += [f"coroutine {hexadecimal(each)}" for each in lock.waiting_coroutines]
    return ", ".join(told) or NOTHING
