"""Registers by name, in the order of ``pr_reg`` (Linux ``user_regs_struct``), per architecture.

Linux: arch/*/include/uapi/asm/ptrace.h and elf.h. All are words of the core's class; s390x has two
32-bit access registers in one word, whose first pair is the thread pointer.
"""

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
    "s390x": " ".join(
        ["pswm pswa", *(f"r{i}" for i in range(16)), *(f"a{i}_a{i + 1}" for i in range(0, 16, 2))]
    )
    + " orig_r2",
    "ppc64": " ".join(f"r{i}" for i in range(32))
    + " nip msr orig_r3 ctr lr xer ccr softe trap dar dsisr result",
    "riscv64": "pc ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10"
    " s11 t3 t4 t5 t6",
    "loongarch64": " ".join(f"r{i}" for i in range(32)) + " orig_a0 era badv",
}

NAMES = {machine: tuple(names.split()) for machine, names in _LISTS.items()}
"""The registers of NT_PRSTATUS, for the architectures whose registers this library can name."""

THREAD_POINTERS = {
    "x86-64": "fs_base",
    "s390x": "a0_a1",
    "ppc64": "r13",
    "riscv64": "tp",
    "loongarch64": "r2",
}
"""Where NT_PRSTATUS has the thread pointer; aarch64's is in a note of its own, NT_ARM_TLS."""
