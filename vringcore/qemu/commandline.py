"""The command line of the process, its pid, and the name and UUID of its virtual machine.

Linux leaves argc, argv, envp and the auxiliary vector on the main thread's stack, in this order of
addresses (fs/binfmt_elf.c, create_elf_tables). The vector is known from NT_AUXV, so it is found by
its own bytes below what AT_RANDOM points to, and the rest is read downwards from there. Strings of
the environment are never read.
"""

from __future__ import annotations

from itertools import pairwise
from struct import unpack
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.elfcore.notes import AT_NULL, AT_RANDOM
from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.model.values import Absent
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.redact import redact, redact_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.elfcore.image import ProcessImage
    from vringcore.view.views import Views

NEAR_WORDS = 512
"""The vector's end lies this near below AT_RANDOM's bytes: only an alignment is between them."""

FIRST_WINDOW = 4 * 1024
MAX_WINDOW = 16 * 1024 * 1024
"""Bytes of stack in which argc is looked for; Linux allows argv and envp 6 MiB (_STK_LIM)."""

MAX_TOGETHER = 64 * 1024
"""Bytes of arguments that are read at once."""

MAX_ARGUMENT = 128 * 1024
"""Linux's MAX_ARG_STRLEN."""

UUID_SIZE = 16


def arguments(views: Views, core: ProcessImage) -> tuple[str, ...]:
    """Return argv as it was given, secrets included: never to be shown (see :func:`command_line`).

    A slim core has it without secrets, in its own note.

    :raises CorruptDataError: if the stack does not have the form that Linux gives it
    :raises MemoryFault: if a part of it is not in the core
    """
    if core.slim is not None and core.slim.arguments is not None:
        return core.slim.arguments
    places = argument_places(views, core.auxv)
    together = _strings_together(views, places)
    return together or tuple(views.string(p, MAX_ARGUMENT) for p in places)


def _strings_together(views: Views, places: Sequence[int]) -> tuple[str, ...]:
    """Return strings that lie one behind the other, as Linux lays argv, read in one go.

    Empty if they do not, or cannot be read so.
    """
    if len(places) < 2:
        return ()
    start, size = places[0], places[-1] - places[0]
    if not 0 < size <= MAX_TOGETHER:
        return ()
    try:
        data = views.space.read(HostAddress(start), size)
        last = views.string(places[-1], MAX_ARGUMENT)
    except VringcoreError:
        return ()
    found = data[:-1].split(b"\0")
    reach = start
    for place, text in zip(places, (*found, b""), strict=False):
        if place != reach:
            return ()
        reach += len(text) + 1
    if data[-1] or len(found) != len(places) - 1:
        return ()
    return (*(text.decode("utf-8", "backslashreplace") for text in found), last)


def command_line(views: Views, core: ProcessImage) -> tuple[str, ...] | Absent:
    """Return argv with its secrets replaced by ``<redacted>``.

    If the stack is not there, the absent value's hint holds the 79 bytes that NT_PRPSINFO keeps,
    redacted too; gdb's gcore often writes no more than the program's name into it.
    """
    try:
        return redact(arguments(views, core))
    except VringcoreError as error:
        absent = absence_of(error)
        beginning = core.prpsinfo.psargs.strip() if core.prpsinfo is not None else ""
        if not beginning:
            return absent
        said = f"NT_PRPSINFO has its beginning: {redact_words(beginning)}"
        return Absent(absent.reason, absent.address, "; ".join(filter(None, (said, absent.hint))))


def pid(core: ProcessImage) -> int | Absent:
    """Return the process's id, as the core's writer saw it (NT_PRPSINFO)."""
    if core.prpsinfo is None:
        return Absent("not-in-core", None, "the core has no NT_PRPSINFO note")
    return core.prpsinfo.pid


def vm_name(views: Views, core: ProcessImage) -> str | Absent | None:
    """Return the VM's name, None if it has none: ``qemu_name`` (system/globals.c), else -name."""
    place = views.find_address_of("qemu_name")
    if place is not None:
        return attempt(lambda: views.string_or_none(views.pointer(place)))
    return option(views, core, "-name", "guest")


def vm_uuid(views: Views, core: ProcessImage) -> str | Absent | None:
    """Return the VM's UUID, None if it has none: ``qemu_uuid`` (system/globals.c), else -uuid.

    A VM without a UUID has one of zeros there, which is what QMP's ``query-uuid`` then returns.
    """
    place = views.find_address_of("qemu_uuid")
    if place is None:
        return option(views, core, "-uuid")
    try:
        digits = views.space.read(place, UUID_SIZE).hex()
    except VringcoreError as error:
        return absence_of(error)
    if not int(digits, 16):
        return None
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def option(views: Views, core: ProcessImage, name: str, key: str = "") -> str | Absent | None:
    """Return the last value of an option, None if it was not given.

    :param key: return only this part of the value; at its beginning ``key=`` may be left out
    """
    argv = attempt(lambda: arguments(views, core))
    if isinstance(argv, Absent):
        return argv
    found = next((v for n, v in reversed([*pairwise(argv)]) if n in (name, f"-{name}")), None)
    if found is None or not key:
        return found
    first, *others = found.replace(",,", "\0").split(",")
    for part in (first if "=" in first else f"{key}={first}", *others):
        if part.startswith(f"{key}="):
            return part.removeprefix(f"{key}=").replace("\0", ",")
    return None


def argument_places(views: Views, auxv: dict[int, int]) -> Sequence[int]:
    """Return the pointers of argv; the errors are those of :func:`arguments`."""
    anchor = auxv.get(AT_RANDOM)
    if anchor is None:
        raise CorruptDataError(
            "the command line cannot be found",
            where="NT_AUXV",
            seen="no AT_RANDOM",
            expected="an address on the main thread's stack",
        )
    order = ">" if views.layouts.big_endian else "<"
    code, size = ("Q", 8) if views.pointer_size == 8 else ("I", 4)
    top = anchor & -size
    window = FIRST_WINDOW
    while window <= MAX_WINDOW:
        data = views.space.read(HostAddress(top - window), window)
        argv = find_argv(unpack(f"{order}{window // size}{code}", data), auxv, anchor)
        if argv is not None:
            return argv
        window *= 4
    raise CorruptDataError(
        "the command line cannot be found",
        where=f"the stack below AT_RANDOM, {anchor:#x}",
        expected=f"the auxiliary vector near it, and argc within {MAX_WINDOW} bytes",
        hint="the process has overwritten it, or the core was not written on Linux",
    )


def find_argv(words: Sequence[int], auxv: dict[int, int], anchor: int) -> Sequence[int] | None:
    """Return argv's pointers among the words of a stack, None if they are not whole among them.

    :param words: what lies below the address ``anchor``, to which AT_RANDOM points
    """
    near = range(len(words) - 2, max(-1, len(words) - NEAR_WORDS), -1)
    at = next((i for i in near if words[i] == AT_RANDOM and words[i + 1] == anchor), 0)
    while at >= 2 and words[at - 2] != AT_NULL and auxv.get(words[at - 2]) == words[at - 1]:
        at -= 2
    # Downwards from here: NULL, envp, NULL, argv, argc.
    if at < 1 or words[at - 1]:
        return None
    end = at - 2
    while end >= 0 and words[end]:
        end -= 1
    start = end - 1
    while start >= 0 and words[start] != end - 1 - start:
        start -= 1
    return words[start + 1 : end] if start >= 0 else None
