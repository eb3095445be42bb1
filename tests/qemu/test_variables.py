"""Arguments and local variables of a small program of ours, as gdb has them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.unwind.support import compile_c, crash, gdb_frames
from vringcore.model.threads import Frame, Variable
from vringcore.model.values import Absent, EnumValue, Pointer

PROGRAM = r"""
#include <signal.h>
#include <stdint.h>

struct VirtIODevice { int unused; } device;
void *main_system_bus;

typedef enum { STOPPED, RUNNING = 7 } State;
struct Pair { long first, second; };
volatile int sink;

__attribute__((noinline)) void innermost(long code, const char *why, int8_t small, _Bool flag)
{
    sink = code + small + flag + (why != 0);
    raise(SIGTRAP);
    sink++;
}

static inline int inlined(int doubled, State state)
{
    innermost(doubled * 2, "inlined", -3, state == RUNNING);
    return doubled + state;
}

__attribute__((noinline)) int clobbered(int used, int *unused, struct Pair pair, State state)
{
    long local = pair.first * 3;
    int sum = inlined(used + 1, state) + local;
    sink += sum;
    return sum + *unused;
}

__attribute__((noinline)) int passing(unsigned char letter, uint64_t big)
{
    int here = letter;
    struct Pair pair = { letter, big };
    return clobbered(letter - 1, &here, pair, RUNNING) + (int)big;
}

int main(int argc, char **argv)
{
    return passing('a' + argc, 0xfffffffffffffff0) + (argv != 0);
}
"""

OPTIONS = {
    "O0": ["-O0"],
    "O2": ["-O2"],
    "O2-dwarf4": ["-O2", "-gdwarf-4"],
    "Os-frame-pointer": ["-Os", "-fno-omit-frame-pointer"],
    "O2-compressed": ["-O2", "-gz"],
}

Case = tuple[list[Frame], list[dict[str, Any]], str]


@pytest.fixture(scope="module", params=list(OPTIONS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    if shutil.which("gdb") is None:
        pytest.skip("needs gdb")
    directory: Path = tmp_path_factory.mktemp("variables")
    program = compile_c(PROGRAM, directory / "program", "-g", *OPTIONS[request.param])
    core = crash(program, directory / "core")
    truth = gdb_frames(program, core, directory / "frames.json")
    with vringcore.open_core(str(core), executable=str(program)) as opened:
        threads = opened.report({"threads", "locals"}).threads
    assert isinstance(threads, tuple)
    frames = list(threads[0].frames)
    own = ("innermost", "inlined", "clobbered", "passing", "main")
    return (
        [frame for frame in frames if frame.function in own],
        [frame for frame in truth if frame["function"] in own],
        request.param,
    )


def number_of(value: Any) -> Any:
    if isinstance(value, Absent):
        return {"optimized-out": "optimized out"}.get(value.reason, value.reason)
    if isinstance(value, Pointer):
        return int(value.address)
    return value.value if isinstance(value, EnumValue) else int(value)


def compare(ours: tuple[Variable, ...], truth: list[list[Any]]) -> int:
    """Hold variables against gdb's; return how many have a value."""
    known = {row[0]: row[1] for row in truth}
    for each in ours:
        value = number_of(each.value)
        assert value in (known[each.name], "optimized out"), each
    return sum(not isinstance(each.value, Absent) for each in ours)


def test_all_arguments_are_shown_and_none_is_wrong(case: Case) -> None:
    frames, truth, _ = case
    assert [frame.function for frame in frames] == [each["function"] for each in truth]
    valued = 0
    for frame, theirs in zip(frames, truth, strict=True):
        # Of an inlined function gdb has them in another order than the source.
        names = sorted(name for name, _ in theirs["arguments"])
        assert sorted(each.name for each in frame.arguments) == names
        valued += compare(frame.arguments, theirs["arguments"])
    assert valued >= 8


def test_local_variables(case: Case) -> None:
    frames, truth, _ = case
    for frame, theirs in zip(frames, truth, strict=True):
        assert isinstance(frame.locals, tuple)
        compare(frame.locals, theirs["locals"])


def test_types_and_values(case: Case) -> None:
    frames, _, options = case
    innermost = {each.name: each for each in frames[0].arguments}
    assert innermost["why"].type == "const char *"
    assert innermost["small"].type == "int8_t"
    assert innermost["flag"].type == "_Bool"
    clobbered = next(frame for frame in frames if frame.function == "clobbered")
    arguments = {each.name: each for each in clobbered.arguments}
    assert arguments["pair"].type == "struct Pair"
    assert isinstance(arguments["pair"].value, Absent)
    if options == "O0":
        assert arguments["state"].value == EnumValue(7, "RUNNING")
        assert arguments["used"].value == ord("a")
        assert arguments["pair"].value.reason == "aggregate"
        passing = next(frame for frame in frames if frame.function == "passing")
        assert passing.arguments[1].value == 0xFFFFFFFFFFFFFFF0
