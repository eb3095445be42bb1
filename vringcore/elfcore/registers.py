"""Registers by name, in the order of ``pr_reg`` (Linux ``user_regs_struct``), per architecture."""

from __future__ import annotations

MACHINES = {
    3: "i386",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86-64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
"""``e_machine`` to the name this library uses."""


def machine_name(number: int) -> str:
    """Return the name of an ``e_machine``, or its number in words."""
    return MACHINES.get(number) or f"ELF machine {number}"


_LISTS = {
    "x86-64": "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags"
    " rsp ss fs_base gs_base ds es fs gs",
    "aarch64": " ".join(f"x{i}" for i in range(31)) + " sp pc pstate",
    "i386": "ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss",
    "arm": "r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 fp ip sp lr pc cpsr orig_r0",
}

NAMES = {machine: tuple(names.split()) for machine, names in _LISTS.items()}
"""The registers of NT_PRSTATUS, for the architectures whose registers this library can name."""
