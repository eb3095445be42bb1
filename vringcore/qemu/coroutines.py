"""Where a sleeping coroutine goes on: the registers that sigsetjmp() saved for it.

QEMU's ucontext backend (util/coroutine-ucontext.c) leaves a coroutine by siglongjmp() and keeps
its own place in ``CoroutineUContext.env``. glibc mangles the addresses in a jmp_buf with a guard
that the kernel chose: bytes 8 to 16 of what AT_RANDOM points to (sysdeps/unix/sysv/linux,
_dl_setup_pointer_guard).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.elfcore.notes import AT_RANDOM
from vringcore.errors import CorruptDataError
from vringcore.qemu.aio_structs import CoroutineUContext

if TYPE_CHECKING:
    from vringcore.elfcore.image import ProcessImage
    from vringcore.view.views import Views

MASK = (1 << 64) - 1


class SavedContext(msgspec.Struct, frozen=True):
    """What a coroutine had in its registers when it was left.

    :param others: those that a function must preserve, by name
    """

    sp: int
    fp: int
    pc: int
    others: dict[str, int]


class _Layout(msgspec.Struct, frozen=True):
    """Indices into ``__jmpbuf``, and how far glibc rotates what it has xor-ed with the guard.

    ``mangled_fp``: whether the frame pointer is treated so too. ``others`` are never.
    """

    fp: int
    sp: int
    pc: int
    rotation: int
    mangled_fp: bool
    others: tuple[tuple[str, int], ...]


# glibc: sysdeps/x86_64/jmpbuf-offsets.h, sysdeps/aarch64/jmpbuf-offsets.h
_LAYOUTS = {
    "x86-64": _Layout(
        fp=1,
        sp=6,
        pc=7,
        rotation=17,
        mangled_fp=True,
        others=(("rbx", 0), ("r12", 2), ("r13", 3), ("r14", 4), ("r15", 5)),
    ),
    "aarch64": _Layout(
        fp=10,
        sp=13,
        pc=11,
        rotation=0,
        mangled_fp=False,
        others=tuple((f"x{19 + number}", number) for number in range(10)),
    ),
}


def saved_context(views: Views, core: ProcessImage, address: int) -> SavedContext:
    """Return where a coroutine that is not running goes on; of one that runs it is out of date.

    :param address: of the Coroutine
    :raises CorruptDataError: for a machine whose jmp_buf is not known here, or without AT_RANDOM
    :raises LayoutMissingError: if this QEMU uses another backend than ucontext
    :raises MemoryFault: if the structure or the guard is not in the core
    """
    layout, random = _LAYOUTS.get(core.machine), core.auxv.get(AT_RANDOM)
    if layout is None or random is None:
        raise CorruptDataError(
            "a coroutine's saved registers cannot be read",
            where=f"{address:#x}",
            seen="no AT_RANDOM in the core's notes" if layout else f"a core of {core.machine}",
            expected="x86-64 or aarch64, and the auxiliary vector",
        )
    guard = views.integer(random + 8, 8)
    env = views.at(CoroutineUContext, address).env
    words = Struct(views.layouts.byteorder + "14Q")
    count = 1 + max(layout.fp, layout.sp, layout.pc)
    slots = words.unpack(views.space.read(HostAddress(env), 8 * count).ljust(words.size, b"\0"))

    def plain(word: int) -> int:
        turned = (word >> layout.rotation | word << (64 - layout.rotation)) & MASK
        return turned ^ guard

    fp = slots[layout.fp]
    return SavedContext(
        sp=plain(slots[layout.sp]),
        fp=plain(fp) if layout.mangled_fp else fp,
        pc=plain(slots[layout.pc]),
        others={name: slots[index] for name, index in layout.others},
    )
