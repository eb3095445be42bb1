"""Coroutines as text: what each waits for, and its frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from vringcore.model.values import Absent
from vringcore.report.backtrace import print_end, print_frames
from vringcore.report.cells import clean, hexadecimal
from vringcore.report.page import FAINT

if TYPE_CHECKING:
    from vringcore.model.coroutines import Coroutine
    from vringcore.model.report import Report
    from vringcore.model.requests import Waiting
    from vringcore.report.page import Page

RUNNING = "running"


def print_coroutines(page: Page, report: Report, *, detailed: bool) -> None:
    """Print every coroutine; frames that are another one's, too, are printed once."""
    coroutines = () if report.coroutines is UNSET else report.coroutines
    shown: dict[tuple[int, ...], int] = {}
    for coroutine in coroutines:
        page.line()
        page.line(coroutine_title(page, coroutine), "bold")
        for waiting in coroutine.waits_in:
            page.line(f"  waits in {place_of(waiting)}", hang=4)
        _print_stack(page, coroutine, shown, detailed=detailed)
    page.line()
    page.line(_sum(len(coroutines), report.idle_coroutines or 0))


def place_of(waiting: Waiting) -> str:
    """Return a place where something waits: ``nbd of node nbd0: slot 3, client connected``."""
    node = f" of node {clean(waiting.node)}" if waiting.node else ""
    detail = f": {clean(waiting.detail)}" if waiting.detail else ""
    thread = "" if waiting.thread is None else f", thread {waiting.thread.lwp}"
    return f"{clean(waiting.place)}{node}{detail}{thread}"


def coroutine_title(page: Page, coroutine: Coroutine) -> str:
    """Return where a coroutine is, the function that it began with, and its state."""
    entry = coroutine.entry
    name = page.notes.mark(entry) if isinstance(entry, Absent) else clean(entry or "no function")
    parts = [f"coroutine {hexadecimal(coroutine.address)}", name, clean(coroutine.state)]
    if coroutine.lwp is not None:
        parts.append(f"in thread {coroutine.lwp}")
    caller = coroutine.caller
    if caller is not None and not isinstance(caller, Absent):
        parts.append(f"entered by coroutine {hexadecimal(caller)}")
    held = coroutine.locks_held
    if not isinstance(held, Absent) and held:
        parts.append(f"holds {held} lock" + ("s" if held > 1 else ""))
    return ", ".join(parts)


def _print_stack(
    page: Page, coroutine: Coroutine, shown: dict[tuple[int, ...], int], *, detailed: bool
) -> None:
    if coroutine.state == RUNNING:
        return
    key = tuple(int(frame.pc) for frame in coroutine.frames)
    first = shown.setdefault(key, int(coroutine.address))
    if key and first != coroutine.address and not detailed:
        page.line(f"  frames as of coroutine {hexadecimal(first)}", FAINT)
    else:
        print_frames(page, coroutine.frames, detailed=detailed)
    print_end(page, coroutine.frames_end, coroutine.frames_end_detail)


def _sum(count: int, idle: int) -> str:
    told = f"{count} coroutine" + ("" if count == 1 else "s")
    return f"{told}, and {idle} that ended and wait to be used again." if idle else f"{told}."
