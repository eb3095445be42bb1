"""Registers by their DWARF numbers, and what a call keeps of them.

x86-64: System V psABI, figure 3.36 (numbers) and 3.4 (preserved registers). aarch64: "DWARF for
the Arm 64-bit Architecture", section 4.1, and the procedure call standard, section 6.1.1. s390x:
"ELF Application Binary Interface s390x Supplement", 1.2.1 and 1.6. ppc64: "64-bit PowerPC ELF
Application Binary Interface Supplement", 3.2.1 and 3.6. riscv64: "RISC-V ABIs Specification", 1.1
and 8. loongarch64: "ELF psABI for LoongArch", "Register Usage", and "DWARF Register Mapping".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = (1 << 64) - 1

ENDIAN: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
"""What :class:`int` calls the byte order that :mod:`struct` has a sign for."""

BIG_ENDIAN = "big-endian "
"""Stands before the name of a machine whose data is big-endian."""

_PAC_MASK = 16

_PC = 1000
"""Stands for a program counter that has no DWARF number."""


class Architecture(msgspec.Struct, frozen=True):
    """How one machine numbers its registers.

    :param names: NT_PRSTATUS's name of each numbered register
    :param pc: number of the program counter
    :param sp: number of the stack pointer
    :param fp: number of the register that a frame pointer is kept in
    :param link: number of the register that a call leaves the return address in, None where the
        call pushes it
    :param preserved: what a called function gives back unchanged, the stack pointer left out
    :param code_mask: bits of a signed return address that are address
    :param order: of bytes, as :mod:`struct` has it
    :param guessed: callers can be guessed where nothing describes a frame: calls are known by their
        code, and a frame pointer by where it points
    """

    name: str
    names: dict[int, str]
    pc: int
    sp: int
    fp: int
    link: int | None
    preserved: frozenset[int]
    code_mask: int = MASK
    order: str = "<"
    guessed: bool = False

    def numbered(self, registers: Mapping[str, int]) -> dict[int, int]:
        """Return registers by number; those without a DWARF number are left out."""
        return {number: registers[name] for number, name in self.names.items() if name in registers}

    def named(self, registers: Mapping[int, int]) -> dict[str, int]:
        """Return registers by name."""
        names = self.names
        return {names[number]: value for number, value in registers.items() if number in names}


_X86_64 = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip"

_RISCV = (
    "ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
)
_POWER = Architecture(
    name="ppc64",
    names={**{number: f"r{number}" for number in range(32)}, 65: "lr", _PC: "nip"},
    pc=_PC,
    sp=1,
    fp=31,
    link=65,
    preserved=frozenset({2, *range(13, 32)}),
)

ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture(
            name="x86-64",
            names=dict(enumerate(_X86_64.split())),
            pc=16,
            sp=7,
            fp=6,
            link=None,
            preserved=frozenset({3, 6, 12, 13, 14, 15}),
            guessed=True,
        ),
        Architecture(
            name="aarch64",
            names=dict(enumerate([*(f"x{i}" for i in range(31)), "sp", "pc"])),
            pc=32,
            sp=31,
            fp=29,
            link=30,
            preserved=frozenset(range(19, 30)),
            # 48 bits of user addresses; the bits above hold the signature (Armv8.3 PAuth).
            code_mask=(1 << 48) - 1,
            guessed=True,
        ),
        Architecture(
            name=BIG_ENDIAN + "s390x",
            names={**{number: f"r{number}" for number in range(16)}, 64: "pswm", 65: "pswa"},
            pc=65,
            sp=15,
            fp=11,
            link=14,
            preserved=frozenset(range(6, 14)),
            order=">",
        ),
        *(_POWER, msgspec.structs.replace(_POWER, name=BIG_ENDIAN + "ppc64", order=">")),
        Architecture(
            name="riscv64",
            names={**dict(enumerate(_RISCV.split(), 1)), _PC: "pc"},
            pc=_PC,
            sp=2,
            fp=8,
            link=1,
            preserved=frozenset({3, 4, 8, 9, *range(18, 28)}),
        ),
        Architecture(
            name="loongarch64",
            names={**{number: f"r{number}" for number in range(32)}, _PC: "era"},
            pc=_PC,
            sp=3,
            fp=22,
            link=1,
            preserved=frozenset({2, *range(21, 32)}),
        ),
    )
}
"""The machines whose stacks can be unwound: :mod:`vringcore.elfcore`'s name, after the order."""


def code_mask(note: bytes, order: str) -> int | None:
    """Return the bits of a signed return address that are address, None if the note is too short.

    :param note: NT_ARM_PAC_MASK (Linux, ``struct user_pac_mask``): the signature's bits of data
        pointers, and of code pointers
    """
    if len(note) < _PAC_MASK:
        return None
    return MASK & ~int.from_bytes(note[8:_PAC_MASK], ENDIAN[order])


def qualified(machine: str, *, big_endian: bool) -> str:
    """Return the name by which :data:`ARCHITECTURES` has a machine."""
    return (BIG_ENDIAN if big_endian else "") + machine
