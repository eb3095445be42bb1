"""A copy of a core whose threads have the registers of sleeping coroutines, for gdb to unwind.

gdb cannot set registers in a core. In the copy each thread's NT_PRSTATUS has a coroutine's.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

PR_PID, PR_REG = 32, 112
"""Offsets in ``struct elf_prstatus`` of 64-bit Linux."""

ORDER = [
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
    *("rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss"),
]

ORDER_ARM = [*(f"x{number}" for number in range(31)), "sp", "pc"]

NO_CALL = (1 << 64) - 1


def with_coroutines(
    core: Path, target: Path, coroutines: Iterable[dict[str, int]]
) -> dict[int, int]:
    """Copy a core; return by the threads' numbers which of the coroutines each has become."""
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", core, target], check=True)
    become = {}
    with target.open("r+b") as file:
        places = list(_prstatus(file))
        for number, (registers, place) in enumerate(zip(coroutines, places, strict=False)):
            file.seek(place + PR_PID)
            become[struct.unpack("<i", file.read(4))[0]] = number
            order = ORDER if "rip" in registers else ORDER_ARM
            no_call = {"orig_rax": NO_CALL} if "rip" in registers else {}
            for name, value in {**registers, **no_call}.items():
                file.seek(place + PR_REG + 8 * order.index(name))
                file.write(struct.pack("<Q", value))
    return become


def _prstatus(file: object) -> Iterator[int]:
    """Yield where in the file each thread's NT_PRSTATUS begins, behind the note's header."""
    for segment in ELFFile(file).iter_segments():
        if isinstance(segment, NoteSegment):
            for note in segment.iter_notes():
                if note["n_type"] == "NT_PRSTATUS":
                    yield note["n_offset"] + note["n_size"] - _rounded(note["n_descsz"])


def _rounded(size: int) -> int:
    return -(-size // 4) * 4
