"""The notes of a small core: those of its original without payload and secrets, and its own."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.elfcore.notes import (
    AT_NULL,
    NT_ARM_PAC_MASK,
    NT_ARM_TLS,
    NT_AUXV,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
)
from vringcore.elfcore.registers import NAMES
from vringcore.qemu.redact import redact_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.elfcore.headers import Note
    from vringcore.elfcore.image import ProcessImage
    from vringcore.elfcore.notes import ProcessInfo, Thread

RawNote = tuple[bytes, int, bytes]
"""Owner, type and description."""

_KEPT = frozenset(
    {NT_PRSTATUS, NT_PRPSINFO, NT_SIGINFO, NT_AUXV, NT_FILE, NT_ARM_TLS, NT_ARM_PAC_MASK}
)
"""What is kept of CORE and LINUX: not the vector registers, through which memory is copied."""

_PSARGS = 80


def kept_notes(notes: Iterable[Note]) -> Iterator[RawNote]:
    """Yield the notes of an original that a small core keeps, in their order."""
    for note in notes:
        if note.owner not in (b"CORE", b"LINUX") or note.type not in _KEPT:
            continue
        desc = note.desc
        if note.type == NT_PRPSINFO and len(desc) > _PSARGS:
            desc = desc[:-_PSARGS] + _redacted(desc[-_PSARGS:])
        yield note.owner, note.type, desc


def _redacted(psargs: bytes) -> bytes:
    """Redact ``pr_psargs``, the beginning of the command line."""
    text = psargs.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    shown = redact_words(text).encode("utf-8", "surrogateescape")
    return shown[: _PSARGS - 1].ljust(_PSARGS, b"\0")


def unnamed_files(image: ProcessImage) -> bool:
    """Tell whether the files of a core are known though its notes name none."""
    notes = image.notes()
    return notes is not None and bool(image.modules) and all(n.type != NT_FILE for n in notes)


def file_note(image: ProcessImage) -> RawNote:
    """Return NT_FILE of the files that are known."""
    return _OWNER, NT_FILE, _files(image)


_OWNER = b"CORE"
_PAGE = 4096
_TIMES = 64
"""Bytes of the four times in elf_prstatus."""


def built_notes(image: ProcessImage) -> Iterator[RawNote]:
    """Yield the notes of a process that no core was written of, as the kernel would order them.

    Registers that are not known are 0 in them: the slim core's own note tells which are.
    (include/linux/elfcore.h; 64-bit only.)
    """
    first, *others = image.threads
    yield from _thread_notes(image, first)
    if image.prpsinfo is not None:
        yield _OWNER, NT_PRPSINFO, _process_info(image, image.prpsinfo)
    order = image.header.byteorder
    vector = [*image.auxv.items(), (AT_NULL, 0)]
    yield _OWNER, NT_AUXV, b"".join(Struct(order + "QQ").pack(*entry) for entry in vector)
    yield file_note(image)
    for thread in others:
        yield from _thread_notes(image, thread)


def _thread_notes(image: ProcessImage, thread: Thread) -> Iterator[RawNote]:
    yield _OWNER, NT_PRSTATUS, _status(image, thread)
    yield from kept_notes(thread.notes)


def _status(image: ProcessImage, thread: Thread) -> bytes:
    order, names = image.header.byteorder, NAMES.get(image.machine, ())
    parent = image.prpsinfo.ppid if image.prpsinfo is not None else 0
    head = Struct(order + "iiih2xQQiiii").pack(
        thread.signal, 0, 0, thread.signal, thread.pending, thread.blocked, thread.lwp, parent, 0, 0
    )
    words = (thread.registers.get(name, 0) for name in names)
    registers = thread.raw_registers or Struct(f"{order}{len(names)}Q").pack(*words)
    return head + bytes(_TIMES) + registers + bytes(8)


def _process_info(image: ProcessImage, info: ProcessInfo) -> bytes:
    name = info.fname.encode("utf-8", "surrogateescape")[:15]
    return Struct(image.header.byteorder + "4x4xQIIiiii16s80s").pack(
        0, info.uid, info.gid, info.pid, info.ppid, 0, 0, name,
        _redacted(info.psargs.encode("utf-8", "surrogateescape")),
    )  # fmt: skip


def _files(image: ProcessImage) -> bytes:
    order = image.header.byteorder
    rows = sorted(
        ((m.start, m.end, m.file_offset, module.path + " (deleted)" * module.deleted))
        for module in image.modules
        for m in module.mappings
    )
    row = Struct(order + "QQQ")
    return b"".join(
        (
            Struct(order + "QQ").pack(len(rows), _PAGE),
            *(row.pack(start, end, offset // _PAGE) for start, end, offset, _ in rows),
            *(path.encode("utf-8", "surrogateescape") + b"\0" for *_, path in rows),
        )
    )
