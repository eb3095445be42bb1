"""System calls of threads as reports show them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, cast

import pytest

from tests.qemu.support import Image, views_of
from vringcore.elfcore.notes import Thread
from vringcore.elfcore.slimnote import SlimNote, SyscallFacts, ThreadFacts
from vringcore.model.threads import SystemCall
from vringcore.model.values import Absent, Address, Pointer
from vringcore.qemu.blocked import blocked_call, futex_operation

if TYPE_CHECKING:
    from vringcore.qemu.process import Process

ERESTARTSYS = (1 << 64) - 512
SVC = struct.pack("<I", 0xD4000001)


class Core:
    def __init__(self, machine: str, files: dict[str, str]) -> None:
        self.machine = machine
        self.slim = SlimNote(files=files) if files else None


class Stub:
    """What of a process a system call needs: its machine, its open files, names for futexes."""

    def __init__(self, machine: str, space: Image, files: dict[str, str]) -> None:
        self.core = Core(machine, files)
        self.views = views_of(space)


def thread(**registers: int) -> Thread:
    return Thread(1, registers, b"", None, 0, 0, 0, [])


def x86(number: int, *arguments: int, rax: int = ERESTARTSYS) -> Thread:
    words = [*arguments, 0, 0, 0, 0, 0, 0]
    names = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
    return thread(orig_rax=number, rax=rax, rip=0x5002, **dict(zip(names, words, strict=False)))


def asked(
    found: Thread,
    facts: ThreadFacts | None = None,
    *,
    machine: str = "x86-64",
    blocks: dict[int, bytes] | None = None,
    files: dict[str, str] | None = None,
) -> SystemCall | Absent | None:
    space = Image(blocks or {})
    process = cast("Process", Stub(machine, space, files or {}))
    return blocked_call(process, found, facts, space)


def test_numbers_addresses_and_descriptors_are_told_apart() -> None:
    assert asked(x86(17, 12, 0x7000, 4096, 8192)) == SystemCall(
        17, "pread64", {"fd": 12, "buffer": Address(0x7000), "count": 4096, "offset": 8192}
    )
    call = asked(x86(7, 0x7000, 3, 0xFFFFFFFF))
    assert isinstance(call, SystemCall)
    assert call.arguments["timeout"] == -1
    call = asked(x86(271, 0x7000, 3, 0x8000))
    assert isinstance(call, SystemCall)
    assert isinstance(call.arguments["timeout"], Address)
    call = asked(x86(257, (1 << 64) - 100, 0x7000))
    assert isinstance(call, SystemCall)
    assert call.arguments["directory"] == -100


def test_the_length_of_vectors_is_the_sum_of_their_buffers() -> None:
    vectors = struct.pack("<6Q", 0x1000, 512, 0x2000, 1024, 0x3000, 1)
    call = asked(x86(295, 5, 0x7000, 3, 65536), blocks={0x7000: vectors})
    assert isinstance(call, SystemCall)
    assert (call.name, call.arguments["length"], call.arguments["offset"]) == (
        "preadv",
        1537,
        65536,
    )
    call = asked(x86(295, 5, 0x7000, 3, 65536))
    assert isinstance(call, SystemCall)
    assert call.arguments["length"] == Absent("unmapped", Address(0x7000))


def test_a_count_that_cannot_be_is_not_read() -> None:
    call = asked(x86(295, 5, 0x7000, 1 << 60), blocks={0x7000: bytes(1 << 15)})
    assert isinstance(call, SystemCall)
    assert call.arguments["length"] == 0


def test_futexes() -> None:
    call = asked(x86(202, 0x9000, 0x189, 2))
    assert isinstance(call, SystemCall)
    assert call.arguments["address"] == Pointer(Address(0x9000))
    assert call.arguments["operation"] == (
        "FUTEX_WAIT_BITSET|FUTEX_PRIVATE_FLAG|FUTEX_CLOCK_REALTIME"
    )
    assert futex_operation(0) == "FUTEX_WAIT"
    assert futex_operation(0x7F) == "127"


def test_calls_that_are_not_known_are_shown_as_they_are() -> None:
    call = asked(x86(9999, 1, 2, 3, 4, 5, 6))
    assert isinstance(call, SystemCall)
    assert (call.number, call.name) == (9999, None)
    assert call.arguments == {f"arg{n}": Address(n + 1) for n in range(6)}
    call = asked(x86(34))
    assert call == SystemCall(34, "pause", {})


def test_a_thread_in_no_call() -> None:
    assert asked(x86((1 << 64) - 1)) is None


def test_a_call_that_has_returned() -> None:
    call = asked(x86(17, 12, 0x7000, 4096, 0, rax=4096))
    assert isinstance(call, SystemCall)
    assert call.result == 4096


def test_what_proc_told_goes_first() -> None:
    told = SyscallFacts(17, (12, 0x7000, 4096, 512, 0, 0), 0x1000, 0x5002)
    facts = ThreadFacts(1, "worker", "D", "sp-pc", told)
    call = asked(thread(rsp=0x1000, rip=0x5002), facts, files={"12": "/dev/sda"})
    assert isinstance(call, SystemCall)
    assert (call.name, call.file, call.arguments["offset"]) == ("pread64", "/dev/sda", 512)
    nowhere = SyscallFacts(-1, (), 0x1000, 0x5002)
    assert asked(x86(17), ThreadFacts(1, "worker", "S", "all", nowhere)) is None


def test_what_nobody_told_is_absent_or_none() -> None:
    assert asked(thread(), ThreadFacts(1, "vcpu", "R", "none")) is None
    assert isinstance(asked(thread(), ThreadFacts(1, "vcpu", "D", "none")), Absent)
    assert isinstance(asked(thread()), Absent)


@pytest.mark.parametrize(("code", "known"), [(SVC, True), (bytes(4), False)])
def test_an_aarch64_thread_stands_before_the_call_it_repeats(code: bytes, *, known: bool) -> None:
    registers = {f"x{n}": n for n in range(8)} | {"x8": 67, "pc": 0x5000, "sp": 0x1000}
    call = asked(thread(**registers), machine="aarch64", blocks={0x5000: code})
    if known:
        arguments = {"fd": 0, "buffer": Address(1), "count": 2, "offset": 3}
        assert call == SystemCall(67, "pread64", arguments)
    else:
        assert call is None
