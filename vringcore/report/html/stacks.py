"""Threads and coroutines for a page: each with its frames, those that wait opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from vringcore.model.values import Absent
from vringcore.report.backtrace import (
    HEURISTIC,
    OUTERMOST,
    frame_name,
    frame_place,
    thread_title,
)
from vringcore.report.cells import hexadecimal
from vringcore.report.coroutines import RUNNING, coroutine_title, place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.coroutines import Coroutine
    from vringcore.model.report import Report
    from vringcore.model.threads import Frame, Thread
    from vringcore.report.page import Page


class Line(msgspec.Struct, frozen=True):
    """A frame: its number as gdb's, its function with arguments, its place in the source."""

    number: int
    function: str
    place: str
    address: str
    inlined: bool
    guessed: bool


class Stack(msgspec.Struct, frozen=True):
    """A thread or a coroutine.

    :param doing: a thread's system call
    :param reasons: why it waits, as far as the wait-for graph or the block layer knows
    :param opened: it waits for something that the verdict is about
    :param ending: why there are no more frames; "" if that is all of them
    """

    anchor: str
    title: str
    doing: str
    reasons: tuple[str, ...]
    kernel: tuple[str, ...]
    lines: tuple[Line, ...]
    ending: str
    opened: bool


def thread_stacks(page: Page, report: Report) -> list[Stack]:
    """Return the threads; those that wait for somebody are open, and those of the findings."""
    if report.threads is UNSET:
        return []
    named = {lwp for finding in report.findings or () for lwp in finding.threads}
    return [_of_thread(page, each, report, opened=each.lwp in named) for each in report.threads]


def coroutine_stacks(page: Page, report: Report) -> list[Stack]:
    """Return the coroutines; of those that wait at the same place the first is open."""
    if report.coroutines is UNSET:
        return []
    seen: set[tuple[int, ...]] = set()
    stacks = []
    for each in report.coroutines:
        key = tuple(int(frame.pc) for frame in each.frames)
        stacks.append(_of_coroutine(page, each, report, first=key not in seen))
        seen.add(key)
    return stacks


def _waits(report: Report, node: str) -> tuple[str, ...]:
    """Return what a node of the wait-for graph waits for, each with the reason."""
    if report.wait_for is UNSET:
        return ()
    labels = {each.id: each.label for each in report.wait_for.nodes}
    return tuple(
        f"waits for {labels.get(edge.waits_for, edge.waits_for)} ({edge.why})"
        for edge in report.wait_for.edges
        if edge.waiter == node
    )


def _of_thread(page: Page, thread: Thread, report: Report, *, opened: bool) -> Stack:
    waits = _waits(report, f"thread:{thread.lwp}")
    title, _, doing = thread_title(page, thread).partition(", in ")
    kernel = () if isinstance(thread.kernel_stack, Absent) else thread.kernel_stack
    return Stack(
        anchor=f"thread-{thread.lwp}",
        title=title,
        doing=doing and f"in {doing}",
        reasons=waits,
        kernel=kernel,
        lines=_lines(page, thread.frames),
        ending=_ending(thread.frames_end, thread.frames_end_detail),
        opened=opened or bool(waits),
    )


def _of_coroutine(page: Page, coroutine: Coroutine, report: Report, *, first: bool) -> Stack:
    address = hexadecimal(coroutine.address)
    waits = _waits(report, f"coroutine:{address}")
    places = tuple(f"waits in {place_of(each)}" for each in coroutine.waits_in)
    running = coroutine.state == RUNNING
    return Stack(
        anchor=f"coroutine-{address}",
        title=coroutine_title(page, coroutine),
        doing="",
        reasons=places + waits,
        kernel=(),
        lines=() if running else _lines(page, coroutine.frames),
        ending="" if running else _ending(coroutine.frames_end, coroutine.frames_end_detail),
        opened=first and bool(places + waits),
    )


def _lines(page: Page, frames: Sequence[Frame]) -> tuple[Line, ...]:
    return tuple(
        Line(
            number=number,
            function=frame_name(page, frame),
            place=frame_place(frame),
            address="" if frame.inlined else hexadecimal(frame.pc),
            inlined=frame.inlined,
            guessed=frame.how == HEURISTIC and not frame.inlined,
        )
        for number, frame in enumerate(frames)
    )


def _ending(end: str, detail: str) -> str:
    if end == OUTERMOST:
        return ""
    return f"no further: {end}" + (f": {detail}" if detail else "")
