"""What addr2line, gdb and LLVM say of code addresses, beside our answers.

Where they differ, we must agree with one. They are known to differ, and who is right:

- Of several rows of one address gdb takes the last that is marked as a statement, also for the
  middle of the instruction; addr2line, eu-addr2line and llvm-symbolizer take the last row. What
  people compare a backtrace with is gdb's: so do we.
- binutils 2.40 gives the name of the unit's own file to rows of some included ``.c.inc`` files;
  gdb, eu-addr2line and llvm-symbolizer give the included file. So do we.
- binutils loses inlined functions whose origin dwz moved to a partial unit; gdb and LLVM have them.
- binutils and gdb disagree on the names of files that lie where the compiler ran; both mean the
  same path, which is what is compared.
- Between functions, where nothing but padding is, addr2line gives the symbol before; we give none.
- gdb has no function for some addresses for which all others have one. We have it.
- Line 0 is code of no line (clang writes it); gdb gives it the line before. We do not.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.debuginfo.oracles import GDB, ask_gdb
from tests.synth.programs import find_tool
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.provider import DebugInfo
from vringcore.layout.types import SourceFrame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ADDR2LINE = shutil.which("addr2line")
SYMBOLIZER = find_tool("llvm-symbolizer")

Frame = tuple[str, str, int]
"""Function, file, line; "" and 0 for what is not known."""


def code_addresses(program: Path, section: str = ".text") -> range:
    """Return every address of a section."""
    with ElfFile.open(str(program)) as elf:
        header = next(h for h in elf.headers if h.name == section)
        return range(header.addr, header.addr + header.size)


def our_frames(program: Path, addresses: Sequence[int]) -> list[tuple[SourceFrame, ...]]:
    """Return our answers; nothing may be damaged."""
    with ElfFile.open(str(program)) as elf:
        build_id = elf.build_id
    debug = DebugInfo(find_files(build_id, str(program), executable=str(program)))
    try:
        found = [debug.source_of(address) or () for address in addresses]
        assert debug.log == []
    finally:
        debug.close()
    return found


def addr2line_frames(program: Path, addresses: Sequence[int]) -> list[list[Frame]]:
    """Return the answers of binutils, files with their directories."""
    assert ADDR2LINE is not None
    done = subprocess.run(
        [ADDR2LINE, "-a", "-f", "-i", "-e", str(program)],
        input="\n".join(map(hex, addresses)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers: list[list[Frame]] = []
    lines = iter(done.stdout.splitlines())
    for line in lines:
        if line.startswith("0x"):
            answers.append([])
            continue
        file, _, number = next(lines).rpartition(":")
        row = number.split(" ")[0]
        answers[-1].append(_frame(line, file, int(row) if row.isdigit() else 0))
    return answers


def gdb_frames(program: Path, addresses: Sequence[int], scratch: Path) -> list[list[Frame]]:
    """Return the answers of gdb, files as it shows them."""
    answers = ask_gdb(program, scratch, sources=list(addresses))["sources"]
    return [[_frame(*frame) for frame in frames] for frames in answers]


def _frame(function: str, file: str, line: int) -> Frame:
    known = file not in ("", "??") and line
    return "" if function == "??" else function, file if known else "", line if known else 0


def llvm_frames(program: Path, addresses: Sequence[int]) -> list[list[Frame]]:
    """Return the answers of LLVM, files with their directories."""
    assert SYMBOLIZER is not None
    done = subprocess.run(
        [SYMBOLIZER, "--output-style=JSON", "--functions=short", "-e", str(program)],
        input="\n".join(map(hex, addresses)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        [_frame(f["FunctionName"], f["FileName"], f["Line"]) for f in answer["Symbol"]]
        for answer in answers
    ]


class Comparison:
    """Our answers beside theirs: how many are equal, and which nobody confirms."""

    def __init__(self, program: Path, addresses: Sequence[int], scratch: Path) -> None:
        theirs = {"addr2line": addr2line_frames(program, addresses)}
        if GDB is not None:
            theirs["gdb"] = gdb_frames(program, addresses, scratch)
        if SYMBOLIZER is not None:
            theirs["llvm-symbolizer"] = llvm_frames(program, addresses)
        ours = our_frames(program, addresses)
        self.asked = len(addresses)
        self.named = sum(bool(frames) and bool(frames[-1].function) for frames in ours)
        self.levels = sum(map(len, ours))
        self.equal = dict.fromkeys(theirs, 0)
        self.unconfirmed: list[tuple[str, object, object]] = []
        for place, address in enumerate(addresses):
            said = {name: answers[place] for name, answers in theirs.items()}
            agreeing = [name for name, frames in said.items() if _agree(ours[place], frames)]
            for name in agreeing:
                self.equal[name] += 1
            if not agreeing:
                self.unconfirmed.append((hex(address), ours[place], said))

    def __str__(self) -> str:
        equal = ", ".join(f"{name} {count}" for name, count in self.equal.items())
        return (
            f"{self.asked} addresses, {self.named} in functions, {self.levels} levels; equal to"
            f" {equal}; confirmed by none {len(self.unconfirmed)}"
        )


def _agree(ours: tuple[SourceFrame, ...], theirs: list[Frame]) -> bool:
    frames = [(f.function, f.path, f.line) for f in ours] or [("", "", 0)]
    theirs = theirs or [("", "", 0)]
    if not frames[-1][0]:
        # In no function: their name, if any, is that of the symbol before; the line is compared.
        theirs = [("", *theirs[-1][1:])]
    # gdb shows names that count from where the compiler ran.
    directory = next((f.directory for f in ours if f.directory), "")
    shown = [(name, _joined(directory, file), line) for name, file, line in theirs]
    return frames in (theirs, shown)


def _joined(directory: str, file: str) -> str:
    return f"{directory}/{file}" if directory and file and not file.startswith("/") else file
