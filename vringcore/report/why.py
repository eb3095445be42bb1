"""``vringcore why`` as text: the sentence first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.model.values import Absent, Address
from vringcore.report.cells import clean, hexadecimal, text_of
from vringcore.report.header import print_header
from vringcore.report.page import ALARM, FAINT, STAND_OUT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.model.findings import Evidence, Finding, Verdict
    from vringcore.model.report import Report
    from vringcore.report.page import Page

STYLES = {"stuck": ALARM, "faulty": ALARM, "healthy": "bold green", "unknown": STAND_OUT}

GRAVE = ("stuck", "fault")

SHOWN = 4
"""Pieces of evidence shown of a finding; ``-v`` shows them all."""


def print_verdict(page: Page, report: Report, *, detailed: bool) -> None:
    """Print the verdict, and with ``detailed`` every finding with all its evidence."""
    print_header(page, report.core, report.qemu)
    verdict = report.verdict
    if not verdict:
        return
    findings = report.findings or ()
    page.line()
    page.line(clean(verdict.summary), STYLES.get(verdict.state, "bold"))
    words = f"{verdict.state}, {verdict.confidence} confidence"
    page.line(f"{words}: {clean(verdict.code)}" if verdict.code else words, FAINT)
    _list(page, "who waits for whom", verdict.chain)
    _list(page, "what to do next", verdict.next_steps)
    _findings(page, verdict, findings, detailed=detailed)
    _list(page, "what would prove it wrong", verdict.refuted_by)
    _looked(page, verdict, detailed=detailed)
    if verdict.code:
        page.line()
        page.line(f"`vringcore why --explain {clean(verdict.code)}` says how this is told", FAINT)
    page.close(report.limits)


def _list(page: Page, title: str, lines: Iterable[str]) -> None:
    """Print a title and its lines, or nothing if there are none."""
    texts = list(lines)
    if not texts:
        return
    page.line()
    page.line(title, "bold")
    for text in texts:
        page.line(clean(text), indent=2)


def _findings(
    page: Page, verdict: Verdict, findings: tuple[Finding, ...], *, detailed: bool
) -> None:
    """Print what the verdict rests on; the finding whose sentence is the verdict's has no other."""
    shown = findings if detailed else [each for each in findings if each.severity in GRAVE]
    if not detailed and not shown:
        shown = [each for each in findings if each.severity == "warning"]
    for finding in shown:
        page.line()
        page.line(f"{finding.severity}: {clean(finding.code)} ({finding.confidence})", "bold")
        if finding.summary.lower() != verdict.summary.rstrip(".").lower():
            page.line(clean(finding.summary), indent=2)
        _evidence(page, "", finding.evidence, detailed=detailed)
        _evidence(page, "against it: ", finding.against, detailed=detailed)
    rest = len(findings) - len(shown)
    if rest:
        page.line()
        what = "1 note is" if rest == 1 else f"{rest} notes are"
        page.line(f"{what} shown with -v", FAINT)


def _evidence(page: Page, before: str, found: tuple[Evidence, ...], *, detailed: bool) -> None:
    for each in found if detailed else found[:SHOWN]:
        text = f"{before}{clean(each.what)} = {evidence_value(page, each.value)}{_spot(each)}"
        page.line(text, indent=4)
        if each.c_path and detailed:
            page.line(clean(each.c_path), FAINT, indent=8)
    rest = len(found) - SHOWN
    if rest > 0 and not detailed:
        more = "1 more fact: -v shows it" if rest == 1 else f"{rest} more facts: -v shows them"
        page.line(f"and {more}", FAINT, indent=4)


def evidence_value(page: Page, value: Any) -> str:
    """Return the value of a piece of evidence, an absent one by its footnote."""
    if isinstance(value, Absent):
        return page.notes.text(value)
    if isinstance(value, Address):
        return hexadecimal(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(evidence_value(page, each) for each in value)
    return text_of(value)


def _spot(evidence: Evidence) -> str:
    """Return where the value was read: its address, and the core's byte that holds it."""
    if evidence.address is None:
        return ""
    offset = "" if evidence.file_offset is None else f", byte {evidence.file_offset} of the core"
    return f"  (at {hexadecimal(evidence.address)}{offset})"


def _looked(page: Page, verdict: Verdict, *, detailed: bool) -> None:
    if detailed:
        _list(page, "looked at, and in order", verdict.checked)
    elif verdict.checked:
        page.line()
        count = len(verdict.checked)
        what = (
            "1 thing that was looked at is"
            if count == 1
            else f"{count} things that were looked at are"
        )
        page.line(f"{what} in order: -v lists them", FAINT)
    _list(page, "not judged", verdict.unchecked)
