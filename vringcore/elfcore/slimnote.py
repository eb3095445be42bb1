"""The notes that make an ordinary ELF core a slim one: what was left out, and what was added.

Their owner is ``VRINGCORE``. ``NT_SLIM`` is a :class:`SlimNote` as JSON. ``NT_SLIM_LAYOUTS`` and
``NT_SLIM_NAMES`` are layout bundles (:mod:`vringcore.layout.bundle`) as zlib-packed JSON: what the
debug information answered. The first has the program's types and variables, which cores of one
build have in common; the others, one for each module, the names and source lines of addresses.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import CoreFormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.elfcore.headers import Note

SCHEMA = "vringcore/slim/1"

NT_SLIM = 0x56520001
NT_SLIM_LAYOUTS = 0x56520002
NT_SLIM_NAMES = 0x56520003

MAX_BUNDLE = 64 << 20
"""Bytes that a packed bundle may unpack to."""


class SyscallFacts(msgspec.Struct, frozen=True):
    """The system call that a thread sits in (/proc/PID/task/TID/syscall).

    ``number`` is the architecture's own; -1 where the thread is blocked outside a system call.
    """

    number: int
    arguments: tuple[int, ...]
    sp: int
    pc: int


class ThreadFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What /proc said of a thread of a live process.

    :param state: the letter of /proc/PID/task/TID/stat: ``S``, ``D``, ``R``, ``t`` …
    :param kernel_stack: the kernel's own frames, innermost first, or why they are not known
    :param wchan: the kernel function it sleeps in, "" if the kernel did not say
    :param registers: which registers NT_PRSTATUS really has: ``all``, ``sp-pc`` or ``none``
    """

    lwp: int
    name: str
    state: str
    registers: str
    syscall: SyscallFacts | None = None
    kernel_stack: tuple[str, ...] | str = ()
    wchan: str = ""


class Mapped(msgspec.Struct, frozen=True, array_like=True):
    """Addresses ``[start, end)`` that the process had mapped; ``rights`` as /proc writes them."""

    start: int
    end: int
    rights: str


class Lost(msgspec.Struct, frozen=True, array_like=True):
    """Addresses ``[start, end)`` that the original did not have either; ``kind`` is its gap's."""

    start: int
    end: int
    kind: str


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """A range that a live process changed while it was read."""

    address: int
    size: int
    what: str


class SlimNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a slim core says of itself and of its original.

    :param of: who wrote the original: ``gcore``, ``kernel``, ``live`` for a running process …
    :param complete: whether the original was whole
    :param problems: what was damaged in it
    :param captured_at: seconds since 1970 when a live process was read, or the original taken
    :param captured_by: who said so of the original; without a time, why none is believed
    :param clock_ns: CLOCK_MONOTONIC at that moment, as the process has it; None if not known
    :param guest_ram: whether the original held the guest's memory, as reports say it
    :param ram_files: guest RAM that was not in the original but read from a file: block and path
    :param arguments: the command line, secrets redacted: argv itself is not in the memory
    :param mapped: what was mapped in the original; the segments are only what was kept of it
    :param lost: what of that the original did not hold
    :param threads: what /proc said, of a live process
    :param files: its open files: path by descriptor
    :param moved: what changed while it was read
    :param left_out: what was removed or masked on purpose, in words
    """

    schema: str = msgspec.field(default_factory=lambda: SCHEMA)
    writer: str = ""
    of: str = ""
    complete: bool = True
    problems: tuple[str, ...] = ()
    captured_at: float | None = None
    captured_by: str = ""
    clock_ns: int | None = None
    guest_ram: str = ""
    ram_files: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] | None = None
    mapped: tuple[Mapped, ...] = ()
    lost: tuple[Lost, ...] = ()
    threads: tuple[ThreadFacts, ...] = ()
    files: dict[str, str] = {}
    moved: tuple[Moved, ...] = ()
    left_out: tuple[str, ...] = ()


def encode(note: SlimNote) -> bytes:
    """Return the description of NT_SLIM."""
    return msgspec.json.encode(note)


def decode(data: bytes, where: str) -> SlimNote:
    """Return the note from its bytes.

    :raises CoreFormatError: if it is damaged, or of a kind that this version does not know
    """
    try:
        note = msgspec.json.decode(data, type=SlimNote)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CoreFormatError(
            "the slim core's own note is damaged", where=where, seen=str(error)
        ) from error
    if note.schema != SCHEMA:
        raise CoreFormatError(
            "a slim core of an unknown kind",
            where=where,
            seen=note.schema,
            expected=SCHEMA,
            hint="a newer vringcore reads it",
        )
    return note


def pack(bundle: bytes) -> bytes:
    """Return the description of a note that holds a layout bundle."""
    return zlib.compress(bundle, 9)


def unpack(data: bytes, where: str) -> bytes:
    """Return a layout bundle's JSON.

    :raises CoreFormatError: if it is damaged, or unpacks to more than :data:`MAX_BUNDLE`
    """
    unpacker = zlib.decompressobj()
    try:
        bundle = unpacker.decompress(data, MAX_BUNDLE)
    except zlib.error as error:
        raise CoreFormatError(
            "the layouts in the slim core are damaged", where=where, seen=str(error)
        ) from error
    if not unpacker.eof:
        raise CoreFormatError(
            "the layouts in the slim core are cut or too large",
            where=where,
            seen=f"{len(bundle)} bytes so far",
            expected=f"at most {MAX_BUNDLE}",
        )
    return bundle


def find(notes: Iterable[Note], owner: bytes, kind: int) -> bytes | None:
    """Return the description of the first note of an owner and type, None if there is none."""
    return next((n.desc for n in notes if n.owner == owner and n.type == kind), None)
