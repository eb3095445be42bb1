"""Signal trampolines without unwind information, known by their code.

glibc and the x86-64 vDSO describe theirs; musl's has none, and since Linux 5.8 that of the arm64
vDSO has none either. Offsets: struct rt_sigframe, ucontext and sigcontext of each architecture.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vringcore.memory.space import HostSpace
    from vringcore.unwind.registers import Architecture


class _Trampoline(msgspec.Struct, frozen=True):
    """The code of a trampoline, and where above the stack pointer the registers were saved."""

    code: bytes
    offset: int
    numbers: tuple[int, ...]


_TRAMPOLINES = {
    # mov $15,%rax; syscall. %rsp is at the ucontext: the return address is popped.
    "x86-64": _Trampoline(
        bytes.fromhex("48c7c00f0000000f05"),
        40,
        (8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16),
    ),
    # mov x8,#139; svc #0. sp is at the siginfo; before x0 lies fault_address.
    "aarch64": _Trampoline(bytes.fromhex("681180d2010000d4"), 128 + 176 + 8, tuple(range(33))),
}


def interrupted(
    architecture: Architecture, registers: Mapping[int, int], space: HostSpace
) -> dict[int, int] | None:
    """Return the registers that a signal interrupted, if the code at the pc is a trampoline.

    :raises MemoryFault: if the code or the saved registers are not there
    """
    known = _TRAMPOLINES.get(architecture.name)
    if known is None:
        return None
    place = HostAddress(registers[architecture.pc])
    if space.read(place, len(known.code)) != known.code:
        return None
    saved = Struct(f"{architecture.order}{len(known.numbers)}Q")
    frame = HostAddress(registers[architecture.sp] + known.offset)
    return dict(zip(known.numbers, saved.unpack(space.read(frame, saved.size)), strict=True))
