"""Programs compiled for these tests, and files and cores as memory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from vringcore.elfcore.core import ElfCore
from vringcore.elfcore.executable import read_executable
from vringcore.elfcore.headers import PF_W, PF_X, PT_LOAD
from vringcore.elfcore.modules import Module
from vringcore.elfcore.notes import FileMapping
from vringcore.memory.files import FileSource
from vringcore.memory.overlay import OverlaySpace
from vringcore.memory.segments import Segment, SegmentSpace

GDB_FRAMES = Path(__file__).parent.parent / "lab" / "gdb_frames.py"

BIAS = 0x7F00_0000_0000


def loaded(path: str | Path, bias: int = BIAS) -> tuple[SegmentSpace, Module]:
    """Lay an ELF file's segments into memory as a loader would, without relocations."""
    source = FileSource.open(str(path))
    segments, mappings = [], []
    for p in read_executable(source).program_headers:
        if p.type == PT_LOAD:
            start = p.vaddr + bias
            writable, code = bool(p.flags & PF_W), bool(p.flags & PF_X)
            segments.append(
                Segment(start, start + p.memsz, start + p.filesz, p.offset, writable, code)
            )
            mappings.append(FileMapping(start, start + p.filesz, p.offset, str(path)))
    space = SegmentSpace(source, segments)
    return space, Module(str(path), mappings, space)


def compile_c(source: str, target: Path, *options: str, compiler: str = "gcc") -> Path:
    """Compile a C (or, with ``-x assembler``, an assembler) source."""
    code = target.with_suffix(".c")
    code.write_text(source)
    subprocess.run([compiler, *options, str(code), "-o", str(target)], check=True)
    return target


def crash(program: Path, core: Path, *arguments: str) -> Path:
    """Run a program under gdb until it stops itself, and take a core of it."""
    command = ["gdb", "-batch", "-nx", "-ex", "set disable-randomization off"]
    command += ["-ex", "handle SIGUSR1 SIGSEGV nostop pass", "-ex", "run"]
    command += ["-ex", f"generate-core-file {core}", "--args", str(program), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert core.exists(), ended.stdout + ended.stderr
    return core


def gdb_frames(program: Path, core: Path, target: Path) -> list[dict[str, Any]]:
    """Return the frames of the core's first thread as gdb has them."""
    command = ["gdb", "-batch", "-nx", "-x", str(GDB_FRAMES), str(program), str(core)]
    environment = {**os.environ, "VRINGCORE_LAB_TRUTH": str(target)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert target.exists(), ended.stdout + ended.stderr
    [thread] = json.loads(target.read_text())
    frames: list[dict[str, Any]] = thread["frames"]
    return frames


def memory_of(core: ElfCore) -> OverlaySpace:
    """Return a core's memory with the files of this machine beneath it."""
    files = {
        module.path: FileSource.open(module.path)
        for module in core.modules
        if module.header is not None
    }
    return core.with_files(files)
