"""The groups of a scan, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.report.cells import clean
from vringcore.report.page import ALARM, STAND_OUT, Column, column_of

if TYPE_CHECKING:
    from vringcore.model.scan import Group, GroupsDocument
    from vringcore.report.page import Page

_STYLES = {"stuck": ALARM, "faulty": ALARM, "unreadable": STAND_OUT}


def print_groups(page: Page, document: GroupsDocument, *, detailed: bool = False) -> None:
    """Write a table of the groups, then what each of them is."""
    page.header(f"{clean(document.path)}: {number_of_cores(document.cores)}")
    groups_table(page, document)
    for number, group in enumerate(document.groups, 1):
        if group.state != "healthy" or detailed:
            print_group(page, number, group)
    if document.unfinished:
        page.remark(
            f"{document.unfinished} bytes at the end are no whole row: the scan was cut short;"
            " `vringcore scan --resume` goes on"
        )
    page.close(())


def groups_table(page: Page, document: GroupsDocument) -> None:
    """Write a line for each group."""
    page.line()
    if not document.groups:
        page.line("No cores.")
        return
    groups = document.groups
    page.table(
        [
            column_of("group", range(1, len(groups) + 1)),
            column_of("cores", [group.count for group in groups]),
            column_of("VMs", [group.vms for group in groups], 2),
            column_of("builds", [group.builds for group in groups], 3),
            Column("first seen", [_day(group.first_seen) for group in groups], 4),
            Column("last seen", [_day(group.last_seen) for group in groups], 5),
            Column("state", [clean(group.state) or "-" for group in groups], 1),
            Column("what", [_what(group) for group in groups], 0, foldable=True),
        ]
    )


def print_group(page: Page, number: int, group: Group) -> None:
    """Write one group: its signature, an example, and what is said of that."""
    page.line()
    title = f"group {number}: {number_of_cores(group.count)}, {group.state or 'no verdict'}"
    page.line(title + (f", {group.confidence} confidence" if group.confidence else ""))
    page.listing(
        [
            ("signature", clean(group.signature) or "-"),
            ("example", clean(group.example)),
            ("there", clean(group.summary) or "-"),
        ]
    )


def _what(group: Group) -> str:
    return clean(group.code or group.signature) or "nothing is wrong"


def number_of_cores(count: int) -> str:
    """Return ``1 core``, ``2 cores``."""
    return "1 core" if count == 1 else f"{count} cores"


def _day(moment: str | None) -> str:
    return "-" if moment is None else moment[:16].replace("T", " ")
