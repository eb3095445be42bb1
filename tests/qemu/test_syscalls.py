"""System calls: numbers as the kernel's own headers have them, registers as gdb reads them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.qemu.support import CORE_PARAMETERS, core_id
from vringcore.elfcore.core import open_elf_core
from vringcore.elfcore.notes import Thread
from vringcore.elfcore.slimnote import SyscallFacts, ThreadFacts
from vringcore.qemu import syscalls

if TYPE_CHECKING:
    from tests.lab.cases import CoreCase

HEADERS = {
    "x86-64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
MADE_BY = {
    **{name: (name,) for name in ("ppoll", "preadv", "pwritev", "pread64", "pwrite64")},
    "fdatasync": ("fdatasync",),
    "futex_": ("futex",),
    "poll": ("poll", "restart_syscall"),
}
"""Beginnings of the C library's functions, and the calls that they wait in."""

ARGUMENTS = {"rdi": 11, "rsi": 22, "rdx": 33, "r10": 0x5B0000, "r8": 0, "r9": 0}


def defined(header: Path) -> dict[int, set[str]]:
    """Return every name that the kernel's header gives a number, as the preprocessor sees it."""
    command = ["gcc", "-E", "-dM", "-D__BITS_PER_LONG=64", "-include", str(header), "-xc", "-"]
    said = subprocess.run(command, input="", check=True, capture_output=True, text=True).stdout
    found: dict[int, set[str]] = {}
    values = dict(re.findall(r"#define (__NR\w+) (\w+)", said))
    for name, value in values.items():
        while value in values:
            value = values[value]
        if value.isdecimal():
            plain = re.sub(r"^__NR(3264)?_", "", name)
            found.setdefault(int(value), set()).add(plain)
    return found


def thread(**registers: int) -> Thread:
    known = {**ARGUMENTS, "rsp": 0x7FFF0000, **registers}
    return Thread(1234, known, b"", None, 0, 0, 0, [])


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("no kernel headers here")
    names = defined(HEADERS[machine])
    checked = 0
    for number in range(500):
        call = syscalls.system_call(machine, number, (0,) * 6)
        assert call is not None
        if not call.name.startswith("system call"):
            assert call.name in names[number], number
            checked += 1
    assert checked > 30


@pytest.mark.parametrize("result", [-4, -38, -512, -513, -514, -516])
def test_a_thread_that_the_kernel_holds(result: int) -> None:
    call = syscalls.call_of("x86-64", thread(orig_rax=295, rax=result & (2**64 - 1)))
    assert call is not None
    assert (call.name, call.fd, call.offset, call.result) == ("preadv", 11, 0x5B0000, None)
    assert call.arguments == {"fd": 11, "iov": 22, "count": 33, "offset": 0x5B0000}


def test_a_thread_that_was_just_given_its_answer() -> None:
    call = syscalls.call_of("x86-64", thread(orig_rax=17, rax=16384))
    assert call is not None
    assert (call.name, call.result) == ("pread64", 16384)


def test_threads_in_no_system_call() -> None:
    assert syscalls.call_of("x86-64", thread(orig_rax=2**64 - 1, rax=5)) is None
    assert syscalls.call_of("x86-64", thread(rax=5)) is None
    assert syscalls.call_of("aarch64", thread(x8=69)) is None


def test_what_proc_told_goes_before_registers_that_were_not_taken() -> None:
    zeros = thread(orig_rax=0, rax=0)
    told = ThreadFacts(
        1234, "worker", "D", "sp-pc", SyscallFacts(296, (10, 1, 2, 4096, 0, 0), 1, 2)
    )
    call = syscalls.call_of("x86-64", zeros, told)
    assert call is not None
    assert (call.name, call.fd, call.offset) == ("pwritev", 10, 4096)
    assert syscalls.call_of("x86-64", zeros, ThreadFacts(1234, "worker", "R", "none")) is None


def test_a_call_that_is_not_known_keeps_its_number() -> None:
    call = syscalls.system_call("riscv64", 63, (7, 8, 9, 0, 0, 0))
    assert call is not None
    assert (call.name, call.arguments, call.values[0]) == ("system call 63", {}, 7)
    assert call.fd is None
    assert call.offset is None


@pytest.mark.parametrize("core", CORE_PARAMETERS, ids=core_id)
def test_real_threads_are_in_the_call_that_their_innermost_function_makes(core: CoreCase) -> None:
    """gdb names the function; the C library's functions are called after the call they make."""
    if core.case.for_arm64:
        pytest.skip("its emulator leaves the program counter behind the call: nothing tells of it")
    innermost = {
        each["lwp"]: [frame["function"] or "" for frame in each["frames"][:1]]
        for each in core.gdb["threads"]
    }
    checked = 0
    with open_elf_core(str(core.path)) as image:
        for caller in syscalls.callers(image):
            function = next(iter(innermost[caller.lwp]), "")
            for name, calls in MADE_BY.items():
                if re.match(rf"_*(GI_+)?(libc_)?{name}", function):
                    assert caller.call.name in calls
                    checked += 1
    if not core.case.scenario.startswith("other"):
        assert checked
