"""Two cores of one VM: what moved between them, and what did not.

An index that did not move while requests lasted turns "not returned" into "stuck".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.api import TOOL
from vringcore.model.compare import CompareDocument, QueueChange, Side, ThreadChange
from vringcore.model.report import Limitation
from vringcore.scan.changes import LEAST_NS, Changes, completed, paused_in
from vringcore.scan.pair import SECOND_NS, Elapsed, check_same, elapsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.api import Core
    from vringcore.model.report import Report
    from vringcore.model.threads import Thread

SHOWN = 8
"""Functions of a stack that are shown."""

_ORDER = ("stuck", "slow", "unknown", "moving", "idle")


def compare(first: Core, second: Core) -> CompareDocument:
    """Return what changed from the first core to the second.

    :raises UsageError: if they are not of one process, or the second is the older one
    """
    before, after = first.why(), second.why()
    check_same(first, second, before, after)
    between = elapsed(first, second)
    one_file = _ram_of_one_file(first, second)
    queues = tuple(Changes(before, after, between, one_file).queues())
    threads = tuple(_threads(before.threads or (), after.threads or ()))
    state = min((each.state for each in queues), key=_ORDER.index, default="idle")
    limits = [*_limits(between, one_file), *before.limits, *after.limits]
    return CompareDocument(
        tool=TOOL,
        first=_side(before),
        second=_side(after),
        elapsed_ns=between.nanoseconds,
        elapsed_source=between.source,
        state=state,
        summary=_summary(state, queues, between, paused=paused_in(before, after)),
        queues=queues,
        threads=threads,
        limits=tuple(dict.fromkeys(limits)),
    )


def _limits(between: Elapsed, one_file: str) -> Iterator[Limitation]:
    if between.nanoseconds is None:
        files = between.written
        hint = "`vringcore capture` does"
        if files is not None:
            hint += f"; the files were last written {files / SECOND_NS:.0f} s apart"
        yield Limitation(
            "how much time lies between the cores is not known",
            "neither gdb nor the kernel writes when a core was taken",
            hint,
        )
    elif between.nanoseconds < LEAST_NS:
        yield Limitation(
            "nothing is called stuck for the second core alone",
            f"it was taken {between.nanoseconds / SECOND_NS:.2f} s after the first",
            "take them some seconds apart",
        )
    if one_file:
        yield Limitation(
            "the guest's indices are not compared",
            f"guest RAM of both cores was read from {one_file}, which has what it has now",
            "keep a copy of it with each core: --first-ram-file, --second-ram-file",
        )


def _ram_of_one_file(first: Core, second: Core) -> str:
    """Return the file that guest RAM of both cores was read from, "" if each has its own."""
    names = []
    for core in (first.process.core, second.process.core):
        slim = () if core.slim is None else core.slim.ram_files
        names.append(
            {each.source.path for each in core.shared if each.source} | {p for _, p in slim}
        )
    return min(names[0] & names[1], default="")


def _side(report: Report) -> Side:
    verdict = report.verdict or None
    return Side(
        core=report.core,
        qemu=report.qemu,
        state=verdict.state if verdict else "unknown",
        verdict=verdict.code if verdict else "",
        signature=report.signature or "",
    )


def _threads(old: tuple[Thread, ...], new: tuple[Thread, ...]) -> Iterator[ThreadChange]:
    before = {thread.lwp: thread for thread in old}
    after = {thread.lwp: thread for thread in new}
    for lwp in sorted(before.keys() | after.keys()):
        one, other = before.get(lwp), after.get(lwp)
        some = other or one
        assert some is not None
        if one is None or other is None:
            state = "new" if one is None else "gone"
        else:
            state = "same" if _position(one) == _position(other) else "moved"
        yield ThreadChange(lwp, some.role, state, _functions(one), _functions(other))


def _position(thread: Thread) -> list[tuple[int, int | None]]:
    return [(int(frame.pc), frame.cfa and int(frame.cfa)) for frame in thread.frames]


def _functions(thread: Thread | None) -> tuple[str, ...]:
    frames = thread.frames if thread is not None else ()
    return tuple(frame.function for frame in frames if frame.function)[:SHOWN]


def _summary(state: str, queues: tuple[QueueChange, ...], between: Elapsed, *, paused: str) -> str:
    time = _in_time(between)
    if state == "stuck":
        text = _stuck(queues, time)
    elif state == "slow":
        lasting = sum(len(each.lasting) for each in queues)
        text = f"{_counted(lasting, 'request')} lasted{time} while others were completed."
    elif state == "moving":
        moving = [each for each in queues if each.state == "moving"]
        text = f"Nothing is stuck: {_named(moving)} moved{time}, and no request lasted."
    elif state == "idle":
        text = f"No index moved{time}, and no request waits."
    elif any(each.lasting for each in queues):
        text = f"No completion came{time}, which is too little time to call anything stuck."
    else:
        text = f"What moved{time} cannot be told: the cores lack what would say so."
    return f"{text} The VM was stopped in both (run state {paused})." if paused else text


def _stuck(queues: tuple[QueueChange, ...], time: str) -> str:
    stuck = [each for each in queues if each.state == "stuck"]
    what = _named(stuck)
    requests = sum(len(each.lasting) for each in stuck)
    kept = (
        f"{_counted(requests, 'request')} in flight in both"
        if requests
        else "what the driver published was not taken"
    )
    steps = [move.steps for each in stuck for move in each.indices]
    some = (
        "no index" if all(isinstance(count, int) for count in steps) else "no index that is known"
    )
    moved = any(isinstance(count, int) and count for count in steps)
    told = f"no completion came on {what}" if moved else f"{some} moved on {what}"
    rest = "; other queues go on" if any(completed(each) for each in queues) else ""
    return f"Stuck: {told}{time}, {kept}{rest}."


def _named(queues: Sequence[QueueChange]) -> str:
    names = {each.device_id if isinstance(each.device_id, str) else each.kind for each in queues}
    return f"{_counted(len(queues), 'queue')} of {', '.join(sorted(names))}"


def _in_time(between: Elapsed) -> str:
    nanoseconds = between.nanoseconds
    return "" if nanoseconds is None else f" in {nanoseconds / SECOND_NS:.1f} s"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
