"""What stands behind a call: by the assembler's and disassembler's word."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.unwind.support import BIAS, compile_c, loaded
from tests.view.memory import Memory
from vringcore.addresses import HostAddress
from vringcore.memory.space import HostSpace
from vringcore.unwind.guess import Guesser
from vringcore.unwind.images import Images
from vringcore.unwind.registers import ARCHITECTURES
from vringcore.unwind.signals import interrupted

CALLS = r"""
asm(".text\n nop\n nop\n nop\nstart:\n"
    " call start\n call *%rax\n call *%r12\n call *(%rax)\n call *(%r13)\n call *(%rsp)\n"
    " call *8(%rbx)\n call *8(%rsp)\n call *-8(%r12)\n call *0x1234(%rbp)\n call *0x1234(%rsp)\n"
    " call *start(%rip)\n call *(%rax,%rbx,8)\n call *0x20(%rax,%rbx,8)\n"
    " call *0x12345678(%r9,%r10,4)\n call *0x1000(,%rcx,8)\n call *0x601040\n"
    " jmp *%rax\n jmp *8(%rax)\n push 8(%rax)\n incl (%rax)\n decl 8(%rbx)\n lcall *(%rax)\n"
    " mov %rsp,%rbp\n sub $0xff,%rsp\n lea 0x10(%rip),%rax\n nopw 0(%rax,%rax,1)\n ret\n nop\n");
"""


def instructions(path: Path) -> list[tuple[int, str]]:
    """Return where each instruction ends, and what it is."""
    listing = subprocess.run(["objdump", "-d", path], capture_output=True, text=True).stdout
    rows = re.findall(r"^ +([0-9a-f]+):\t((?:[0-9a-f]{2} )+) *(?:\t(\S+))?", listing, re.MULTILINE)
    found: list[tuple[int, str]] = []
    for address, code, name in rows:
        end = int(address, 16) + len(code.split())
        if name:
            found.append((end, name))
        else:  # the rest of a long instruction
            found[-1] = (end, found[-1][1])
    return found


def guesser(space: HostSpace, images: Images, machine: str) -> Guesser:
    return Guesser(space, images, ARCHITECTURES[machine], lambda _: None, lambda _: False)


@pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump")
def test_calls_of_x86(tmp_path: Path) -> None:
    path = compile_c(CALLS, tmp_path / "calls.so", "-shared", "-nostdlib")
    space, module = loaded(path)
    asked = guesser(space, Images(space, [module]), "x86-64")
    rows = instructions(path)
    calls = 0
    for end, name in rows:
        # The bytes before another instruction's end may be those of a call by chance.
        if name == "call":
            assert asked._returns(end + BIAS), hex(end)
            calls += 1
        elif name in ("jmp", "push", "incl", "decl", "lcall", "ret"):
            assert not asked._returns(end + BIAS), (hex(end), name)
    assert calls == 17


def test_a_frame_pointer_is_followed_where_code_cannot_be_read() -> None:
    memory = Memory()
    memory.put(0x1000, struct.pack("<4Q", 0, 0, 0x1020, 0x5000))
    images = Images(memory, [])
    images._executable, images._executable_starts = [(0x5000, 0x6000)], [0x5000]
    asked = guesser(memory, images, "x86-64")
    assert asked.caller_of({16: 0x5004, 7: 0x1000, 6: 0x1010}) == {6: 0x1020, 7: 0x1020, 16: 0x5000}
    assert asked.caller_of({16: 0x5004, 7: 0x1008, 6: 0x1000}) is None, "below the stack"
    assert asked.caller_of({16: 0x5004, 7: 0x1000, 6: 0x1011}) is None, "not aligned"
    assert asked.caller_of({16: 0x5004, 7: 0x1000}) is None


SIGNAL_FRAME = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <ucontext.h>
#define R(name) printf("%s %zu\n", #name, offsetof(ucontext_t, uc_mcontext.gregs[REG_##name]))
int main(void) {
    R(RAX); R(RDX); R(RCX); R(RBX); R(RSI); R(RDI); R(RBP); R(RSP); R(R8); R(R9); R(R10); R(R11);
    R(R12); R(R13); R(R14); R(R15); R(RIP);
}
"""


def test_signal_frames_of_x86_as_the_headers_have_them(tmp_path: Path) -> None:
    program = compile_c(SIGNAL_FRAME, tmp_path / "offsets")
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split("\n")
    offsets = [int(line.split()[1]) for line in lines if line]
    memory = Memory()
    memory.put(0x5000, bytes.fromhex("48c7c00f0000000f05"))  # mov $15,%rax; syscall
    memory.put(0x1000, bytes(512))
    for number, offset in enumerate(offsets):
        memory.put(0x1000 + offset, struct.pack("<Q", 0x100 + number))
    found = interrupted(ARCHITECTURES["x86-64"], {16: 0x5000, 7: 0x1000}, memory)
    assert found == {number: 0x100 + number for number in range(17)}


def test_signal_frames_of_aarch64() -> None:
    """struct rt_sigframe: siginfo of 128 bytes, then ucontext, its sigcontext aligned to 16."""
    memory = Memory()
    memory.put(0x5000, struct.pack("<2I", 0xD2801168, 0xD4000001))  # mov x8,#139; svc #0
    memory.put(0x1000, bytes(1024))
    siginfo, before_sigmask, sigmask = 128, 8 + 8 + 24, 128
    sigcontext = -(-(siginfo + before_sigmask + sigmask) // 16) * 16
    memory.put(0x1000 + sigcontext + 8, struct.pack("<33Q", *range(0x100, 0x100 + 33)))
    found = interrupted(ARCHITECTURES["aarch64"], {32: 0x5000, 31: 0x1000}, memory)
    assert found == {number: 0x100 + number for number in range(33)}


def test_other_code_is_no_trampoline() -> None:
    memory = Memory()
    memory.put(0x5000, bytes(16))
    assert interrupted(ARCHITECTURES["x86-64"], {16: 0x5000, 7: 0x1000}, memory) is None
    assert memory.read(HostAddress(0x5000), 1) == b"\0"


@pytest.mark.parametrize(
    ("word", "call"),
    [
        (0x94000010, True),  # bl
        (0x97FFFFFF, True),  # bl, backwards
        (0xD63F0100, True),  # blr x8
        (0xD63F081F | 8 << 5, True),  # blraaz x8
        (0xD73F0901, True),  # blraa x8, x1
        (0xD61F0100, False),  # br x8
        (0xD65F03C0, False),  # ret
        (0x14000010, False),  # b
        (0xF9400108, False),  # ldr
    ],
)
def test_calls_of_aarch64(word: int, *, call: bool) -> None:
    memory = Memory()
    memory.put(0x5000, struct.pack("<I", word))
    images = Images(memory, [])
    images._executable, images._executable_starts = [(0x5000, 0x6000)], [0x5000]
    assert guesser(memory, images, "aarch64")._returns(0x5004) is call
