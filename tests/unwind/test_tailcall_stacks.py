"""Backtraces of a real program of tail calls, recursion and functions that jump to each other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.debuginfo.test_lines_gdb import TAIL_CALLS
from tests.unwind.support import compile_c, crash, gdb_frames
from vringcore import open_core
from vringcore.layout.store import LayoutStore

# A program without any of QEMU's variables is refused.
PROGRAM = f"{TAIL_CALLS}\nvoid *main_system_bus;\n"

pytestmark = pytest.mark.skipif(
    shutil.which("gdb") is None or shutil.which("gcc") is None, reason="needs gdb and gcc"
)

Shown = tuple[str | None, str | None, int | None, int]


@pytest.mark.parametrize("flags", ["-O2", "-O2 -gdwarf-4", "-O3", "-O1 -foptimize-sibling-calls"])
def test_functions_files_and_lines_are_gdbs(flags: str, tmp_path: Path) -> None:
    program = compile_c(PROGRAM, tmp_path / "program", "-g", *flags.split())
    core = crash(program, tmp_path / "core")
    truth = gdb_frames(program, core, tmp_path / "truth.json")
    assert [f["function"] for f in truth].count("deep") > 3
    assert any(f["kind"] == "tail-call" for f in truth)
    shown = [(f["function"], f["file"], f["line"], f["pc"]) for f in truth]
    assert frames_of(core, program) == shown


def frames_of(core: Path, program: Path) -> list[Shown]:
    """Return our frames, without one that gdb leaves out.

    Where a function that has left by a tail call was inlined, gdb shows it, and not the one around.
    """
    with open_core(core, executable=program, store=LayoutStore()) as opened:
        [thread] = opened.report({"threads"}).threads or ()
    found: list[Shown] = []
    inlined = False
    for frame in thread.frames:
        around = inlined and frame.how == "tail-call" and found[-1][3] == frame.pc
        inlined = frame.inlined
        if not around:
            found.append((frame.function, frame.file, frame.line, int(frame.pc)))
    return found
