"""The stack of a real program for LoongArch64, against what the program itself noted of it.

Debian 12 has no libc for that machine, and its gdb does not know it: the program brings its own
system calls, and each function writes down where it returns to and where its frame begins before
the last one ends the process.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.synth.cross import Machine, crash
from vringcore.addresses import HostAddress
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.symbols import SymbolTable
from vringcore.elfcore.core import open_elf_core
from vringcore.elfcore.executable import read_executable
from vringcore.elfcore.linkmap import add_modules
from vringcore.memory.files import FileSource
from vringcore.unwind.frames import Unwinder
from vringcore.unwind.registers import qualified

LOONGARCH64 = Machine("loongarch64", "loongarch64-linux-gnu", "loongarch64", "loong64", False)
COMPILER = next((c for n in range(30, 15, -1) if (c := shutil.which(f"clang-{n}"))), None)
LINKER = next((c for n in range(30, 15, -1) if (c := shutil.which(f"ld.lld-{n}"))), None)

pytestmark = pytest.mark.skipif(
    not (COMPILER and LINKER and shutil.which("qemu-loongarch64-static")),
    reason="apt-get install clang-19 lld-19 qemu-user-static",
)

PROGRAM = r"""
long returns[3], frames[3];
#define NOTE(n) do { returns[n] = (long)__builtin_return_address(0); \
                     frames[n] = (long)__builtin_frame_address(0); } while (0)
__attribute__((always_inline)) static inline long call(long number, long first, long second)
{
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = first;
    register long a1 __asm__("a1") = second;
    __asm__ volatile("syscall 0" : "+r"(a0) : "r"(a7), "r"(a1) : "memory", "t0", "t1", "t2", "t3",
                     "t4", "t5", "t6", "t7", "t8");
    return a0;
}
enum { getpid = 172, kill = 129, SIGABRT = 6 };
__attribute__((noinline)) long die(long x) {
    NOTE(0);
    return call(kill, call(getpid, 0, 0), SIGABRT) + x;
}
__attribute__((noinline)) long middle(long x, long *more) {
    volatile char room[5000];  /* more than one instruction can take from the stack pointer */
    NOTE(1);
    room[x] = 1;
    return die(x * 3) + more[0] + room[3];
}
__attribute__((noinline)) long top(long x) {
    long more[3] = {x, 2, 3};
    NOTE(2);
    return middle(x + 1, more) * x;
}
void _start(void) { top(5); call(93, 0, 0); }
"""


@pytest.mark.parametrize("options", ["-O0", "-O2", "-O2 -fomit-frame-pointer"])
def test_frames_are_those_that_the_program_noted(options: str, tmp_path: Path) -> None:
    assert COMPILER is not None
    code, program = tmp_path / "program.c", tmp_path / "program"
    code.write_text(PROGRAM)
    target = [f"--target={LOONGARCH64.triplet}", f"--ld-path={LINKER}", "-mno-lsx"]
    alone = ["-ffreestanding", "-nostdlib", "-static", "-Wl,--build-id", "-Wl,--eh-frame-hdr"]
    unwinding = ["-g", "-fasynchronous-unwind-tables", *options.split()]
    command = [COMPILER, *target, *alone, *unwinding, str(code), "-o", str(program)]
    subprocess.run(command, check=True, timeout=60)
    path = crash(LOONGARCH64, program)
    with open_elf_core(str(path)) as core, ElfFile.open(str(program)) as elf:
        assert core.machine == "loongarch64"
        executable = read_executable(FileSource.open(str(program)))
        add_modules(core, executable, lambda _: None)
        space = core.with_files({core.modules[0].path: executable.source}, executable)
        machine = qualified(core.machine, big_endian=False)
        (thread,) = core.threads
        found = Unwinder(space, core.modules, machine, None).backtrace(thread.registers)
        symbols = SymbolTable.of(elf)
        assert symbols is not None
        noted = {}
        for name in ("returns", "frames"):
            place = symbols.find(name)
            assert place is not None
            data = space.read(HostAddress(place.address), 24)
            noted[name] = [int.from_bytes(data[i : i + 8], "little") for i in (0, 8, 16)]
        starts = [symbols.find(name) for name in ("die", "middle", "top", "_start")]
    assert [frame.pc for frame in found.frames[1:4]] == noted["returns"]
    assert [frame.cfa for frame in found.frames[:3]] == noted["frames"]
    for frame, start in zip(found.frames[:4], starts, strict=True):
        assert start is not None
        assert start.address <= frame.pc < start.address + start.size
    assert {frame.how for frame in found.frames} == {"registers", "cfi"}
