"""What a scan came to, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.report.cells import clean
from vringcore.report.groups import groups_table, number_of_cores, print_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vringcore.model.scan import GroupsDocument
    from vringcore.report.page import Page


def print_scan(
    page: Page, document: GroupsDocument, *, skipped: Mapping[str, int], resumed: int
) -> None:
    """Write the groups, and what was not read.

    :param skipped: files that are no cores, by the reason
    :param resumed: cores that had a row from before
    """
    unreadable = sum(g.count for g in document.groups if g.state == "unreadable")
    parts = [number_of_cores(document.cores)]
    if unreadable:
        parts.append(f"{unreadable} of them could not be read")
    if resumed:
        parts.append(f"{resumed} had their row already")
    page.line(", ".join(parts))
    groups_table(page, document)
    if not document.path:  # no row is kept that would say more
        for number, group in enumerate(document.groups, 1):
            if group.state != "healthy":
                print_group(page, number, group)
    if skipped:
        counts = ", ".join(f"{count} {clean(why)}" for why, count in sorted(skipped.items()))
        page.remark(f"skipped: {counts}")
    if document.path:
        page.remark(f"`vringcore groups {clean(document.path)}` shows an example of each group")
    else:
        page.remark("-o ROWS keeps a row of each core")
    page.close(())
