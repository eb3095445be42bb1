"""Rows by what is wrong: one group for each signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from vringcore.api import TOOL
from vringcore.model.scan import Group, GroupsDocument

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.model.scan import ScanRow

UNREADABLE = "unreadable"

_CONFIDENCES = ("high", "medium", "low")


class Groups:
    """Takes rows one after the other; what it keeps grows with the causes, not with the cores."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self.cores = 0
        self.unreadable = 0

    def add(self, row: ScanRow) -> None:
        """Take a row into account."""
        self.cores += 1
        self.unreadable += row.error is not None
        key = signature_of(row)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(key, row)
        group.add(row)

    def document(self, path: str = "", unfinished: int = 0) -> GroupsDocument:
        """Return the groups, the largest first, those without a problem last."""
        groups = sorted(
            self._groups.values(), key=lambda each: (each.rank, -each.count, each.signature)
        )
        return GroupsDocument(
            tool=TOOL,
            path=path,
            cores=self.cores,
            unfinished=unfinished,
            groups=tuple(each.model() for each in groups),
        )


class _Group:
    def __init__(self, signature: str, row: ScanRow) -> None:
        self.signature = signature
        self.count = 0
        self._vms: set[str] = set()
        self._builds: set[str] = set()
        self._first: str | None = None
        self._last: str | None = None
        self._example = row

    @property
    def rank(self) -> int:
        """What stands first: what is stuck, then what could not be read, then the others."""
        state = _state(self._example)
        return {"stuck": 0, "faulty": 0, UNREADABLE: 1, "unknown": 2}.get(state, 3)

    def add(self, row: ScanRow) -> None:
        self.count += 1
        vm = row.vm_uuid if isinstance(row.vm_uuid, str) else row.vm_name
        if isinstance(vm, str):
            self._vms.add(vm)
        if row.build_id:
            self._builds.add(row.build_id)
        taken = row.captured_at if isinstance(row.captured_at, str) else row.modified
        if taken is not None:
            self._first = taken if self._first is None else min(self._first, taken)
            self._last = taken if self._last is None else max(self._last, taken)
        if _order(row) < _order(self._example):
            self._example = row

    def model(self) -> Group:
        row = self._example
        verdict = row.verdict or None
        error = row.error
        example = f"{row.path}!{row.member}" if row.member else row.path
        return Group(
            signature=self.signature,
            state=_state(row),
            code=error.code if error else verdict.code if verdict else "",
            count=self.count,
            vms=len(self._vms),
            builds=len(self._builds),
            first_seen=self._first,
            last_seen=self._last,
            confidence=verdict.confidence if verdict else "",
            example=example,
            summary=error.message if error else verdict.summary if verdict else "",
        )


def signature_of(row: ScanRow) -> str:
    """Return what a row is grouped by."""
    if row.error is not None:
        return f"error: {row.error.code}"
    if row.signature is UNSET or row.signature is None:
        return "no verdict was asked for"
    if not row.signature and row.verdict and row.verdict.state != "healthy":
        return row.verdict.state
    return row.signature


def groups_of(rows: Iterable[ScanRow], path: str = "", unfinished: int = 0) -> GroupsDocument:
    """Return the groups of rows."""
    groups = Groups()
    for row in rows:
        groups.add(row)
    return groups.document(path, unfinished)


def _state(row: ScanRow) -> str:
    if row.error is not None:
        return UNREADABLE
    return row.verdict.state if row.verdict else ""


def _order(row: ScanRow) -> tuple[int, tuple[str, str]]:
    """Return what makes a row a good example: that it is sure, then that it is the first."""
    confidence = row.verdict.confidence if row.verdict else ""
    rank = _CONFIDENCES.index(confidence) if confidence in _CONFIDENCES else len(_CONFIDENCES)
    return rank, row.key
