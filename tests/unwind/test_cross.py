"""Whole stacks of real programs for other machines, against gdb-multiarch."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.synth.cross import AARCH64, MACHINES, Machine, compile_c, crash
from tests.unwind.support import GDB_FRAMES
from tests.unwind.test_stacks import PROGRAM, physical
from vringcore.elfcore.core import ElfCore, open_elf_core
from vringcore.elfcore.executable import Executable, read_executable
from vringcore.elfcore.linkmap import add_modules
from vringcore.elfcore.notes import NT_ARM_PAC_MASK
from vringcore.elfcore.tls import executable_block
from vringcore.memory.files import FileSource
from vringcore.unwind.frames import Backtrace, Unwinder
from vringcore.unwind.registers import MASK, code_mask, qualified

OPTIONS = {"O2": ["-O2"], "O0": ["-O0"]}
SIGNED = {
    "pac-ret": ["-O2", "-mbranch-protection=pac-ret"],
    "pac-ret+leaf": ["-O2", "-mbranch-protection=pac-ret+leaf"],
    "b-key": ["-O2", "-mbranch-protection=pac-ret+b-key"],
    "standard": ["-O0", "-mbranch-protection=standard"],
}
THREAD_LOCAL = """
static __thread int zeroed[3];
__thread long marked __attribute__((aligned(64))) = 0x5eed;
"""
PAC_MASK = 0x007F_0000_0000_0000
"""Bits 54 to 48: what Linux tells where addresses of programs have 48 bits."""


def opened(machine: Machine, program: Path, path: Path) -> tuple[ElfCore, Executable]:
    """Open a core that names no files, and tell it of those of the machine's libraries."""
    core = open_elf_core(str(path))
    executable = read_executable(FileSource.open(str(program)))

    def find(name: str) -> Executable | None:
        file = Path(f"{machine.root}{name}")
        return read_executable(FileSource.open(str(file))) if file.exists() else None

    add_modules(core, executable, find)
    return core, executable


def unwinder(
    machine: Machine, core: ElfCore, executable: Executable, mask: int | None = None
) -> Unwinder:
    files = {m.path: FileSource.open(f"{machine.root}{m.path}") for m in core.modules[1:]}
    program = core.modules[0]
    space = core.with_files({**files, program.path: executable.source}, executable)
    name = qualified(core.machine, big_endian=core.header.big_endian)
    return Unwinder(space, core.modules, name, mask)


def gdb_frames(
    machine: Machine, program: Path, core: Path, target: Path
) -> list[list[dict[str, Any]]]:
    command = [*machine.debugger, "-x", str(GDB_FRAMES), str(program), str(core)]
    environment = {**os.environ, "VRINGCORE_LAB_TRUTH": str(target)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert target.exists(), ended.stdout + ended.stderr
    return [thread["frames"] for thread in json.loads(target.read_text())]


def assert_gdbs(found: Backtrace, truth: list[dict[str, Any]]) -> None:
    """Compare frames by place and address; gdb goes on to a caller at 0 where none is left."""
    theirs = [(pc, cfa) for pc, cfa in physical(truth) if pc]
    assert [frame.pc for frame in found.frames] == [pc for pc, _ in theirs]
    for frame, (_, cfa) in zip(found.frames, theirs, strict=True):
        assert frame.cfa in (None, cfa) or frame.trampoline
    assert {frame.how for frame in found.frames} <= {"registers", "cfi", "signal"}
    assert found.end == "outermost"


@pytest.fixture(params=MACHINES, ids=lambda machine: machine.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    chosen: Machine = request.param
    if chosen.missing:
        pytest.skip(chosen.missing)
    return chosen


@pytest.mark.parametrize("options", OPTIONS)
def test_frames_are_gdbs(machine: Machine, options: str, tmp_path: Path) -> None:
    program = compile_c(machine, PROGRAM, tmp_path, *OPTIONS[options])
    path = crash(machine, program)
    truth = gdb_frames(machine, program, path, tmp_path / "frames.json")
    core, executable = opened(machine, program, path)
    with core:
        assert (core.machine, core.header.big_endian) == (machine.name, machine.big_endian)
        assert core.problems == []
        found = unwinder(machine, core, executable).backtrace(core.threads[0].registers)
    if machine is AARCH64:
        assert len(found.frames) > 12
        assert_gdbs(found, truth[0])
        return
    # No signal trampoline of these machines is known: what it interrupted is named lost.
    theirs = [(pc, cfa) for pc, cfa in physical(truth[0]) if pc]
    ours = [(frame.pc, frame.cfa) for frame in found.frames]
    assert len(ours) > 8
    assert [pc for pc, _ in ours] == [pc for pc, _ in theirs[: len(ours)]]
    assert found.end in ("no-unwind-information", "outermost")


@pytest.mark.parametrize("options", SIGNED)
@pytest.mark.parametrize("told", [True, False], ids=["mask", "no-mask"])
def test_signed_return_addresses(options: str, told: bool, tmp_path: Path) -> None:
    """The processor has signed them; gdb knows the signature by the kernel's note alone."""
    if AARCH64.missing:
        pytest.skip(AARCH64.missing)
    program = compile_c(AARCH64, PROGRAM, tmp_path, *SIGNED[options])
    path = crash(AARCH64, program)
    with_mask = with_note(path, tmp_path / "mask.core")
    truth = gdb_frames(AARCH64, program, with_mask, tmp_path / "frames.json")
    core, executable = opened(AARCH64, program, with_mask if told else path)
    with core:
        notes = [n for n in core.threads[0].notes if n.type == NT_ARM_PAC_MASK]
        assert bool(notes) == told
        mask = code_mask(notes[0].desc, "<") if told else None
        assert mask == (MASK & ~PAC_MASK if told else None)
        stacks = unwinder(AARCH64, core, executable, mask)
        found = stacks.backtrace(core.threads[0].registers)
    assert len(found.frames) > 12
    assert_gdbs(found, truth[0])
    assert stacks.assumed == (not told)


def test_thread_locals_are_where_gdb_finds_them(machine: Machine, tmp_path: Path) -> None:
    """Variants I and II of the layout; qemu-user does not write arm64's thread pointer."""
    source = THREAD_LOCAL + PROGRAM.replace("sink += why[0];", "sink += marked + zeroed[sink & 1];")
    program = compile_c(machine, source, tmp_path, "-O1")
    path = crash(machine, program)
    core, executable = opened(machine, program, path)
    with core:
        (thread,) = core.threads
        if machine is AARCH64:
            assert thread.fs_base is None
            return
        assert thread.fs_base
        block = executable_block(machine.name, thread.fs_base, executable.program_headers)
        assert block is not None
        place = block + symbol(machine, program, "marked")
        space = core.with_files({}, executable)
        assert int.from_bytes(space.read(place, 8), "big") == 0x5EED  # type: ignore[arg-type]


def symbol(machine: Machine, program: Path, name: str) -> int:
    """Return where in its block a thread-local variable is."""
    listing = subprocess.run(
        [f"{machine.triplet}-nm", str(program)], capture_output=True, text=True, check=True
    ).stdout
    return next(int(line.split()[0], 16) for line in listing.splitlines() if line.endswith(name))


def with_note(path: Path, target: Path) -> Path:
    """Write a core like another, with a thread's NT_ARM_PAC_MASK behind its NT_PRSTATUS."""
    data = bytearray(path.read_bytes())
    (offset,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    for row in range(offset, offset + 56 * count, 56):
        kind, _, place, _, _, size = struct.unpack_from("<IIQQQQ", data, row)
        if kind != 4:
            continue
        old = bytes(data[place : place + size])
        head = 12 + 8 + -(-struct.unpack_from("<I", old, 4)[0] // 4) * 4
        assert struct.unpack_from("<I", old, 8)[0] == 1, "NT_PRSTATUS comes first"
        mask = struct.pack("<III8s2Q", 6, 16, NT_ARM_PAC_MASK, b"LINUX", PAC_MASK, PAC_MASK)
        notes = old[:head] + mask + old[head:]
        struct.pack_into("<Q", data, row + 8, len(data))
        struct.pack_into("<QQ", data, row + 32, len(notes), 0)
        data += notes
    target.write_bytes(data)
    return target
