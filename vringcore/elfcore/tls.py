"""Where a thread keeps its own copies of a program's ``__thread`` variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.elfcore.headers import ProgramHeader

PT_TLS = 7

_AFTER = {"aarch64": 16, "riscv64": 0, "loongarch64": 0}
"""Where the block lies above the thread pointer: bytes in between (ELF TLS ABI, variant I)."""

_AT = {"ppc64": -0x7000}
"""Where it lies at a fixed distance, so that 16-bit offsets reach all of it (variant I)."""

_BEFORE = frozenset({"x86-64", "i386", "s390x"})
"""Where it ends at the thread pointer (variant II)."""


def executable_block(
    machine: str, thread_pointer: int, segments: Iterable[ProgramHeader]
) -> int | None:
    """Return the address of the executable's TLS block in one thread.

    The executable's block is the one whose place is fixed; a library's is not.

    :param machine: as :attr:`~vringcore.elfcore.core.ElfCore.machine` names it
    :param thread_pointer: ``fs_base``, ``tpidr_el0`` …
    :param segments: the executable's program headers
    :return: None if it has no such variables, or for a machine whose rule is not known here
    """
    tls = next((s for s in segments if s.type == PT_TLS), None)
    if tls is None or not thread_pointer:
        return None
    alignment = max(1, tls.align)
    if machine in _BEFORE:
        return thread_pointer - _up(tls.memsz, alignment)
    if machine in _AFTER:
        return thread_pointer + _up(_AFTER[machine], alignment)
    if machine in _AT:
        return thread_pointer + _AT[machine]
    return None


def _up(number: int, alignment: int) -> int:
    return -(-number // alignment) * alignment
