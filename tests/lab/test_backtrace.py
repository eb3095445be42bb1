"""Every frame of every thread, as gdb has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

import vringcore
from tests.cores import cores, has_devices, lab_cores
from tests.lab.cases import CoreCase
from tests.lab.gdb_run import FRAMES, write_truth
from vringcore.model.threads import Frame, Thread
from vringcore.model.values import Absent, EnumValue, Pointer
from vringcore.qemu.block_structs import BdrvTrackedRequest
from vringcore.qemu.threads import frames_of

GENERATED = "code_gen_buffer"
"""What gdb calls code that TCG made."""

TRAMPOLINE = "coroutine_trampoline"
STARTS = ("__start_context", "__startcontext")
"""Where a coroutine's stack begins; the second is arm64's."""

Case = tuple[CoreCase, tuple[Thread, ...], list[dict[str, Any]]]


@cache
def truth_of(core: CoreCase) -> list[dict[str, Any]]:
    """Return what gdb says: of a whole core now, of a dump what it said of the whole one."""
    if not core.whole:
        frames: list[dict[str, Any]] = core.frames
        return frames
    with TemporaryDirectory() as scratch:
        target = Path(scratch) / "frames.json"
        write_truth(core.case.executable, core.path, target, FRAMES)
        said: list[dict[str, Any]] = json.loads(target.read_text())
    return said


def case_of(core: CoreCase) -> Case:
    with core.open() as opened:
        threads = opened.report({"threads"}).threads
    assert isinstance(threads, tuple)
    return core, threads, truth_of(core)


@pytest.fixture(scope="module", params=cores(has_devices))
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


@pytest.fixture(scope="module", params=lab_cores(has_devices))
def lab_case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


def compared(functions: Sequence[str | None]) -> int:
    """How many frames of a stack are compared: of a coroutine's, those to the one it began in.

    gdb does not end there: it takes what lies above that stack for frames.
    """
    return functions.index(TRAMPOLINE) + 1 if TRAMPOLINE in functions else len(functions)


def pairs(case: Case) -> Iterator[tuple[Thread, list[dict[str, Any]]]]:
    """Yield our threads with gdb's frames, both without those that are inferred from tail calls.

    Left out are threads that ran while /proc was read: nothing is known of their registers.
    """
    core, threads, truth = case
    frames = {each["lwp"]: each["frames"] for each in truth}
    assert frames.keys() == {thread.lwp for thread in threads}
    for thread in threads:
        if frames[thread.lwp][0]["pc"] == 0:
            assert core.kind == "proc"
            assert (thread.frames, thread.frames_end) == ((), "stack-not-readable")
            continue
        known = [f for f in frames[thread.lwp] if f["kind"] != "tail-call"]
        known = known[: compared([f["function"] for f in known])]
        own = tuple(frame for frame in thread.frames if frame.how != "tail-call")
        own = own[: compared([frame.function for frame in own])]
        thread = msgspec.structs.replace(thread, frames=own)
        yield thread, known


def is_in_generated_code(truth: list[dict[str, Any]]) -> bool:
    """Tell whether a stack leads through code that TCG made."""
    return any(f["function"] == GENERATED for f in truth)


def skip_threads_at_work(case: Case) -> None:
    """Skip a core of a VM at work: its threads stand anywhere, where gdb's own lines may differ."""
    if not case[0].case.manifest["expected"]["in_flight"]:
        pytest.skip("its threads were at work")


def test_functions_that_left_by_a_tail_call_are_gdbs(lab_case: Case) -> None:
    """In their place among the others.

    gdb names what was inlined at the jump; we name that, and the function around it.
    """
    skip_threads_at_work(lab_case)
    frames = {each["lwp"]: each["frames"] for each in lab_case[2]}
    whole = {thread.lwp: thread.frames for thread in lab_case[1]}
    for thread, _ in pairs(lab_case):
        truth = [f for f in frames[thread.lwp] if f["kind"] != "inlined"]
        theirs = [(f["kind"] == "tail-call", f["pc"], f["function"], f["line"]) for f in truth]
        theirs = theirs[: compared([f["function"] for f in truth])]
        ours = whole[thread.lwp]
        ours = ours[: compared([frame.function for frame in ours])]
        assert [*_collapsed(ours)] == theirs, thread.lwp


def _collapsed(frames: tuple[Frame, ...]) -> Iterator[tuple[bool, int, str | None, int | None]]:
    innermost: Frame | None = None
    for frame in frames:
        innermost = innermost or frame
        if not frame.inlined:
            left = frame.how == "tail-call"
            shown = innermost if left else frame
            yield left, int(frame.pc), shown.function, shown.line
            innermost = None


def test_program_counters_are_gdbs(case: Case) -> None:
    for thread, truth in pairs(case):
        ours = [int(frame.pc) for frame in thread.frames if not frame.inlined]
        assert ours == [f["pc"] for f in truth if f["kind"] != "inlined"], thread.lwp
        assert thread.frames_end == "outermost"


def test_frame_addresses_are_gdbs(case: Case) -> None:
    for thread, truth in pairs(case):
        ours = [frame.cfa for frame in thread.frames if not frame.inlined]
        theirs = [f["cfa"] for f in truth if f["kind"] != "inlined"]
        # The outermost has no caller, and so no rule for its own address.
        assert list(map(int, filter(None, ours))) == theirs[: -1 if ours[-1] is None else None]


def test_functions_are_gdbs(case: Case) -> None:
    for thread, truth in pairs(case):
        ours = [(frame.function, frame.inlined) for frame in thread.frames]
        assert ours == [(f["function"], f["kind"] == "inlined") for f in truth], thread.lwp


def test_lines_are_gdbs(case: Case) -> None:
    skip_threads_at_work(case)
    for thread, truth in pairs(case):
        ours = [(frame.file, frame.line) for frame in thread.frames]
        assert ours == [(f["file"], f["line"]) for f in truth], thread.lwp


def number_of(value: Any) -> Any:
    """Return a variable's value as the oracle writes it."""
    if isinstance(value, Absent):
        return {"optimized-out": "optimized out"}.get(value.reason, value.reason)
    if isinstance(value, Pointer):
        return int(value.address)
    return value.value if isinstance(value, EnumValue) else int(value)


def test_no_argument_differs_from_gdbs(lab_case: Case) -> None:
    """Every argument is shown, and none has another value; few are known to gdb alone.

    gdb takes the registers that nobody noted, of a core from /proc, for zeros. Stacks that
    lead through generated code are left out.
    """
    if lab_case[0].kind == "proc":
        pytest.skip("its registers are not known")
    equal = lost = 0
    for thread, truth in pairs(lab_case):
        if is_in_generated_code(truth):
            continue  # gdb was seen to take a vCPU's address for the CPU's structure
        if [f["pc"] for f in truth] != [frame.pc for frame in thread.frames]:
            continue
        for frame, theirs in zip(thread.frames, truth, strict=True):
            ours = sorted((each.name, number_of(each.value)) for each in frame.arguments)
            known = sorted((name, value) for name, value in theirs["arguments"])
            assert [name for name, _ in ours] == [name for name, _ in known], frame
            for (_, value), (_, other) in zip(ours, known, strict=True):
                equal += value == other
                lost += value != other
                assert value == other or value in ("optimized out", "not-supported"), frame
    assert equal >= 3 * lost


def test_local_variables_are_gdbs(lab_case: Case) -> None:
    """Those in force that have a value have gdb's."""
    core = lab_case[0]
    if core.case.scenario not in ("stuck-migration", "nine-devices"):
        pytest.skip("of two scenarios")
    with core.open() as opened:
        threads = opened.report({"threads", "locals"}).threads
    assert isinstance(threads, tuple)
    equal = 0
    for thread, truth in pairs((core, threads, lab_case[2])):
        for frame, theirs in zip(thread.frames, truth, strict=True):
            assert isinstance(frame.locals, tuple)
            known = theirs["locals"]
            for each in frame.locals:
                value = number_of(each.value)
                others = [other for name, other in known if name == each.name]
                # What is only a constant gdb does not always show.
                numbers = [other for other in others if isinstance(other, int)]
                assert isinstance(value, str) or not numbers or value in numbers, (frame, each)
                equal += value in numbers
    assert equal > 20


def test_nothing_is_guessed(case: Case) -> None:
    for thread, _ in pairs(case):
        assert {frame.how for frame in thread.frames} <= {"registers", "cfi", "signal"}


def has_libraries(core: CoreCase) -> bool:
    """Tell whether a core holds the libraries' own pages."""
    return core.kind == "proc" or core.unfiltered


def test_without_the_libraries_no_frame_of_the_program_is_lost(
    lab_case: Case, tmp_path: Path
) -> None:
    """The frames in libraries are guessed over; what is shown is part of what gdb has."""
    skip_threads_at_work(lab_case)
    core = lab_case[0]
    if core.case.for_arm64:
        pytest.skip("the code of its libraries is in the core itself")
    executable = str(core.case.executable)
    with vringcore.open_core(
        str(core.path), executable=executable, sysroot=str(tmp_path)
    ) as opened:
        threads = opened.report({"threads"}).threads
    assert isinstance(threads, tuple)
    for thread, truth in pairs((core, threads, lab_case[2])):
        theirs = [f["pc"] for f in truth if f["kind"] != "inlined"]
        ours = [int(frame.pc) for frame in thread.frames if not frame.inlined]
        rest = iter(theirs)
        assert all(pc in rest for pc in ours), thread.lwp
        if not has_libraries(core):
            assert {frame.how for frame in thread.frames} >= {"heuristic"}


def test_a_coroutine_that_a_thread_runs_is_unwound_to_where_it_began(case: Case) -> None:
    for thread in case[1]:
        functions = [frame.function for frame in thread.frames]
        if TRAMPOLINE in functions:
            [start] = functions[compared(functions) :]
            assert start in STARTS
            assert thread.frames_end == "outermost"


def test_sleeping_coroutines_are_unwound_to_where_they_began(case: Case) -> None:
    with case[0].open() as opened:
        process = opened.process
        views = process.views
        sleeping = {
            int(request.co)
            for node in process.block.nodes()
            for request in views.elements(node.view.tracked_requests, BdrvTrackedRequest, "list")
        }
        for address in sleeping:
            found = process.backtraces.of_coroutine(address)
            names = [frame.function for frame in frames_of(process, found)]
            assert found.end == "outermost"
            assert names[0] == "qemu_coroutine_switch"
            assert names[-2] == TRAMPOLINE
            assert names[-1] in STARTS
            assert {frame.how for frame in found.frames} == {"saved", "cfi"}
            # Whoever calls a function on this stack lies above it.
            low = [f.registers.get("rsp", f.registers.get("sp", 0)) for f in found.frames]
            assert low == sorted(low)


def test_every_thread_has_a_role(case: Case) -> None:
    core, threads, _ = case
    roles = [thread.role for thread in threads]
    assert roles.count("main-loop") == 1
    assert roles.count("rcu") == 1
    argv = core.case.manifest["argv"]
    [*_, cpus] = [int(n.split(",")[0]) for w, n in pairwise(argv) if w == "-smp"]
    assert {t.role_name for t in threads if t.role == "vcpu"} == set(map(str, range(cpus)))
    given = {w.split("id=")[1].split(",")[0] for w in argv if w.startswith("iothread,")}
    assert given <= {thread.role_name for thread in threads if thread.role == "iothread"}
