"""Registers by their DWARF numbers, and what a call keeps of them.

x86-64: System V psABI, figure 3.36 (numbers) and 3.4 (preserved registers). aarch64: "DWARF for
the Arm 64-bit Architecture", section 4.1, and the procedure call standard, section 6.1.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = (1 << 64) - 1


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
    """

    name: str
    names: dict[int, str]
    pc: int
    sp: int
    fp: int
    link: int | None
    preserved: frozenset[int]
    code_mask: int = MASK

    def numbered(self, registers: Mapping[str, int]) -> dict[int, int]:
        """Return registers by number; those without a DWARF number are left out."""
        return {number: registers[name] for number, name in self.names.items() if name in registers}

    def named(self, registers: Mapping[int, int]) -> dict[str, int]:
        """Return registers by name."""
        names = self.names
        return {names[number]: value for number, value in registers.items() if number in names}


_X86_64 = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip"

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
        ),
    )
}
"""The machines whose stacks can be unwound, by the name that :mod:`vringcore.elfcore` uses."""
