"""Whole stacks of real programs, against gdb."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unwind.support import compile_c, crash, gdb_frames, memory_of
from vringcore.elfcore.core import open_elf_core
from vringcore.memory.files import FileSource
from vringcore.unwind.frames import Backtrace, Unwinder
from vringcore.unwind.images import vdso

pytestmark = pytest.mark.skipif(
    not (shutil.which("gdb") and shutil.which("gcc")), reason="needs gcc and gdb"
)

PROGRAM = r"""
#define _GNU_SOURCE
#include <alloca.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int sink;
static ucontext_t here, there;
static int (*volatile indirect)(int, char *);
static char *other_stack;

__attribute__((noinline, noreturn)) static void die(const char *why)
{
    sink += why[0];
    abort();
}

__attribute__((noinline)) static int dynamic(int depth, char *text)
{
    char *room = alloca(100 + 8 * depth);
    memset(room, depth, 100);
    if (!depth) die(text);
    sink += room[depth];
    return indirect(depth - 1, room) + sink;
}

__attribute__((noinline)) static int aligned(int depth, char *text)
{
    char room[256] __attribute__((aligned(64)));
    memset(room, depth, sizeof room);
    sink += room[depth] + text[0];
    return dynamic(depth, room) + room[depth];
}

static void handler(int number)
{
    sink += number;
    sink += dynamic(2, "in a handler") + 1;
}

static int compare(const void *a, const void *b)
{
    sink++;
    raise(SIGUSR1);
    return *(int *)a - *(int *)b;
}

__attribute__((noinline)) static int sorted(int n)
{
    int numbers[] = {3, 1, 2, n};
    qsort(numbers, 4, sizeof numbers[0], compare);
    return numbers[n & 3];
}

static void routine(void) { sink += dynamic(1, "in a context") + 1; }

int main(int count, char **words)
{
    indirect = aligned;
    if (count > 1 && !strcmp(words[1], "context")) {
        getcontext(&there);
        there.uc_stack.ss_sp = malloc(1 << 16);
        there.uc_stack.ss_size = 1 << 16;
        there.uc_link = &here;
        makecontext(&there, routine, 0);
        swapcontext(&here, &there);
    }
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    if (count > 1 && !strcmp(words[1], "alternate")) {
        stack_t stack = {.ss_sp = other_stack = malloc(1 << 16), .ss_size = 1 << 16};
        sigaltstack(&stack, 0);
    }
    sigaction(SIGUSR1, &action, 0);
    sigaction(SIGSEGV, &action, 0);
    if (count > 1 && !strcmp(words[1], "fault")) sink += *(volatile int *)8;
    if (count > 1 && !strcmp(words[1], "wild")) ((void (*)(void))16)();
    return sorted(count) + sink;
}
"""

VARIANTS = {
    "O2": ["-O2"],
    "O0": ["-O0"],
    "frame-pointer": ["-O2", "-fno-omit-frame-pointer"],
    "no-pie": ["-O2", "-no-pie"],
}


def backtrace_of(core_path: Path, *, without: str = "") -> tuple[Backtrace, list[str]]:
    """Return the first thread's backtrace, and the path of the file that each pc lies in."""
    with open_elf_core(str(core_path)) as core:
        kernel = vdso(core.auxv, core.memory)
        assert kernel is not None
        space = memory_of(core)
        if without:
            kept = [m for m in core.modules if without not in m.path and m.header is not None]
            space = core.with_files({m.path: FileSource.open(m.path) for m in kept})
        found = Unwinder(space, [*core.modules, kernel], core.machine).backtrace(
            core.threads[0].registers
        )
        modules = [core.module_at(frame.pc) for frame in found.frames]
        return found, ["" if module is None else module.path for module in modules]


@pytest.fixture(scope="module", params=VARIANTS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("stacks") / request.param
    return compile_c(PROGRAM, target, "-g", *VARIANTS[request.param])


def physical(frames: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(f["pc"], f["cfa"]) for f in frames if f["kind"] not in ("inlined", "tail-call")]


@pytest.mark.parametrize("how", ["plain", "alternate", "fault", "wild"])
def test_frames_are_gdbs(program: Path, how: str, tmp_path: Path) -> None:
    core = crash(program, tmp_path / "core", how)
    truth = gdb_frames(program, core, tmp_path / "frames.json")
    found, _ = backtrace_of(core)
    ours = [(frame.pc, frame.cfa) for frame in found.frames]
    assert len(ours) > 8
    assert [pc for pc, _ in ours] == [pc for pc, _ in physical(truth)]
    for (_, cfa), (_, theirs), frame in zip(ours, physical(truth), found.frames, strict=True):
        assert cfa is None or cfa == theirs or frame.trampoline
    assert [f.trampoline for f in found.frames] == [
        f["kind"] == "trampoline" for f in truth if f["kind"] not in ("inlined", "tail-call")
    ]
    assert sum(frame.how == "signal" for frame in found.frames) == 1


def test_a_frame_pointer_leads_through_code_without_unwind_tables(tmp_path: Path) -> None:
    options = ["-O0", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables"]
    program = compile_c(PROGRAM, tmp_path / "program", *options, "-fno-unwind-tables")
    tables = subprocess.run(["readelf", "-wF", program], capture_output=True, text=True).stdout
    main = symbol(program, "main")
    assert not re.search(rf"pc=0*{main:x}\.\.", tables)
    core = crash(program, tmp_path / "core", "plain")
    found, _ = backtrace_of(core)
    marked = [frame for frame in found.frames if frame.how == "heuristic"]
    assert len(marked) > 4
    names = functions_of(program, core, [frame.code_address for frame in found.frames])
    wanted = ["die", "dynamic", "aligned", "dynamic", "aligned", "dynamic", "handler"]
    assert [name for name in names if name in {*wanted, "compare", "sorted", "main"}] == [
        *wanted,
        "compare",
        "sorted",
        "main",
    ]


def test_without_the_c_library_its_frames_are_guessed_over(program: Path, tmp_path: Path) -> None:
    if program.name in ("O0", "frame-pointer"):
        pytest.skip("what is in its frame pointer is lost in the library")
    core = crash(program, tmp_path / "core", "plain")
    truth = [pc for pc, _ in physical(gdb_frames(program, core, tmp_path / "frames.json"))]
    found, _ = backtrace_of(core, without="libc")
    ours = [frame.pc for frame in found.frames]
    rest = iter(truth)
    assert all(pc in rest for pc in ours)
    assert any(frame.how == "heuristic" for frame in found.frames)


def test_a_context_begins_where_makecontext_had_it_begin(program: Path, tmp_path: Path) -> None:
    """As a coroutine of QEMU's does: it was called by nobody."""
    core = crash(program, tmp_path / "core", "context")
    truth = [pc for pc, _ in physical(gdb_frames(program, core, tmp_path / "frames.json"))]
    found, _ = backtrace_of(core)
    ours = [frame.pc for frame in found.frames]
    assert ours == truth[: len(ours)]
    assert found.end == "outermost"
    names = functions_of(program, core, [frame.code_address for frame in found.frames])
    assert names[-2:] == ["routine", "__start_context"]
    assert {frame.how for frame in found.frames} == {"registers", "cfi"}


def symbol(program: Path, name: str) -> int:
    listing = subprocess.run(["nm", program], capture_output=True, text=True).stdout
    found = re.search(rf"^([0-9a-f]+) [tT] {name}$", listing, re.MULTILINE)
    assert found is not None
    return int(found[1], 16)


def functions_of(program: Path, core: Path, addresses: list[int]) -> list[str]:
    """Return the function of each address, by gdb."""
    command = ["gdb", "-batch", "-nx"]
    for address in addresses:
        command += ["-ex", f"info symbol {address:#x}"]
    output = subprocess.run([*command, program, core], capture_output=True, text=True).stdout
    lines = [line for line in output.splitlines() if re.search(r" in section |^No symbol", line)]
    assert len(lines) == len(addresses)
    return [line.split()[0] for line in lines]
