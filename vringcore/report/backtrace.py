"""``vringcore backtrace`` as text: threads and coroutines, and their frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from vringcore.model.values import Absent, Address, Pointer
from vringcore.report.cells import clean, hexadecimal, text_of
from vringcore.report.header import print_header
from vringcore.report.page import ALARM, FAINT, STAND_OUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.report import Report
    from vringcore.model.threads import Frame, SystemCall, Thread
    from vringcore.report.page import Page

OUTERMOST = "outermost"
HEURISTIC = "heuristic"
OPTIMIZED_OUT = "optimized-out"
AGGREGATE = "aggregate"
SIGNAL = "signal"

ROLES = {"main-loop": "main loop", "vcpu": "vCPU", "iothread": "I/O thread", "rcu": "RCU"}

UNINTERRUPTIBLE = "D"

WIDEST = 44
"""Columns that names of functions are padded to, at most."""

FILE = 24
"""Columns that a file and a line take, more or less: names are padded where both have room."""


def print_backtraces(page: Page, report: Report, *, detailed: bool) -> None:
    """Print threads and coroutines, and with ``detailed`` each frame's stack address and file."""
    print_header(page, report.core, report.qemu)
    if report.threads is not UNSET:
        _print_threads(page, report.threads, detailed=detailed)
    if report.coroutines is not UNSET:
        from vringcore.report.coroutines import print_coroutines

        print_coroutines(page, report, detailed=detailed)
    page.close(report.limits)


def _print_threads(page: Page, threads: Sequence[Thread], *, detailed: bool) -> None:
    for thread in threads:
        page.line()
        page.line(thread_title(page, thread), STAND_OUT if _stands_out(thread) else "bold", hang=2)
        _print_kernel_stack(page, thread)
        print_frames(page, thread.frames, detailed=detailed)
        print_end(page, thread.frames_end, thread.frames_end_detail)
    if not threads:
        page.line()
        page.line("No thread is in the core.", ALARM)


def _stands_out(thread: Thread) -> bool:
    return not isinstance(thread.state, Absent) and thread.state == UNINTERRUPTIBLE


def thread_title(page: Page, thread: Thread) -> str:
    """Return a thread's number, what it is, and the system call that it is in."""
    parts = [f"thread {thread.lwp}"]
    if thread.role is not None:
        role = ROLES.get(thread.role, clean(thread.role))
        parts.append(f"{role} {clean(thread.role_name)}" if thread.role_name else role)
    if not isinstance(thread.name, Absent):
        parts.append(f"named {clean(thread.name)}")
    if not isinstance(thread.state, Absent):
        parts.append(f"state {clean(thread.state)}")
    if thread.signal:
        parts.append(f"signal {thread.signal}")
    call = thread.system_call
    if isinstance(call, Absent):
        parts.append(f"system call {page.notes.text(call)}")
    elif call is not None:
        parts.append(f"in {_call(page, call)}")
    return ", ".join(parts)


def _call(page: Page, call: SystemCall) -> str:
    """Return a call much as C has it: ``pread64(fd=12 (/dev/sda), …)``; no null pointers."""
    words = []
    for name, value in call.arguments.items():
        if _is_null(value):
            continue
        text = _argument(page, value)
        if name == "fd" and call.file is not None:
            text += f" ({clean(call.file)})"
        words.append(f"{name}={text}")
    name = f"system call {call.number}" if call.name is None else clean(call.name)
    result = "" if call.result is None else f", which has returned {call.result}"
    return f"{name}({', '.join(words)}){result}"


def _is_null(value: Any) -> bool:
    place = value.address if isinstance(value, Pointer) else value
    return isinstance(place, Address) and not place


def _argument(page: Page, value: Any) -> str:
    if isinstance(value, Pointer) and value.symbol:
        offset = f"+{value.offset}" if value.offset else ""
        return f"{hexadecimal(value.address)} <{clean(value.symbol)}{offset}>"
    if isinstance(value, Pointer):
        return hexadecimal(value.address)
    return page.notes.text(value) if isinstance(value, Absent) else text_of(value)


def _print_kernel_stack(page: Page, thread: Thread) -> None:
    if isinstance(thread.kernel_stack, Absent):
        return
    for line in thread.kernel_stack:
        page.line(f"  kernel  {clean(line)}")


def print_end(page: Page, end: str, detail: str) -> None:
    """Print why there are no more frames, unless there are none."""
    if end != OUTERMOST:
        words = f": {clean(detail)}" if detail else ""
        page.line(f"  no further: {clean(end)}{words}", FAINT)


def print_frames(page: Page, frames: Sequence[Frame], *, detailed: bool) -> None:
    """Print frames as gdb numbers them, the innermost first."""
    if not frames:
        return
    names = [frame_name(page, frame) for frame in frames]
    digits = len(str(len(frames) - 1))
    address = max(len(hexadecimal(frame.pc)) for frame in frames)
    hang = digits + address + len("  #  ") + len("  ")
    wide = min(WIDEST, max(map(len, names)))
    if not page.fits(max(max(map(len, names)), wide) + hang + FILE):
        wide = 0
    for number, (frame, name) in enumerate(zip(frames, names, strict=True)):
        pc = "" if frame.inlined else hexadecimal(frame.pc)
        mark = "?" if frame.how == HEURISTIC and not frame.inlined else " "
        text = f"  #{number:<{digits}} {mark}{pc:<{address}}  {name:<{wide}}  {frame_place(frame)}"
        if detailed and not frame.inlined:
            text += _details(frame)
        page.line(text.rstrip(), FAINT if frame.inlined else "", hang=hang)
        if frame.locals is not UNSET:
            for each in frame.locals:
                value = f"        {clean(each.name)} = {_worth(page, each.value)}"
                page.line(value, FAINT, hang=len("        "))


def frame_name(page: Page, frame: Frame) -> str:
    """Return a frame's function with its arguments."""
    name = "??" if frame.function is None else clean(frame.function)
    if frame.arguments:
        words = (f"{clean(each.name)}={_worth(page, each.value)}" for each in frame.arguments)
        name += f"({', '.join(words)})"
    return f"{name} (interrupted)" if frame.how == SIGNAL and not frame.inlined else name


def _worth(page: Page, value: Any) -> str:
    """Return a variable's value much as gdb shows it."""
    if isinstance(value, Absent):
        short = {OPTIMIZED_OUT: "<optimized out>", AGGREGATE: "..."}
        return short.get(value.reason) or page.notes.text(value)
    return _argument(page, value)


def frame_place(frame: Frame) -> str:
    """Return file and line, else the file that is mapped there."""
    if frame.file is not None:
        return clean(frame.file) + ("" if frame.line is None else f":{frame.line}")
    return f"of {clean(frame.module.rsplit('/', 1)[-1])}" if frame.module else "of no file"


def _details(frame: Frame) -> str:
    cfa = "" if frame.cfa is None else f"frame at {hexadecimal(frame.cfa)}, "
    return f" [{cfa}{clean(frame.module) or 'no file'}, by {clean(frame.how)}]"
