"""What a core's name tells: who saved it, of which process, and when.

A name is a hint, never a fact: whoever copied the file could name it as they liked. What the core
itself says (NT_PRPSINFO, its threads) decides whether the rest of the name is believed.

systemd-coredump: ``core.COMM.UID.BOOT_ID.PID.TIME``, compressed ``.zst .lz4 .xz``
(systemd, src/coredump/coredump.c, ``make_filename``; COMM is escaped as ``\\xNN``).
The kernel: ``core_pattern`` with ``%e %p %t`` … (core(5)), as distributions and people set it.
"""

from __future__ import annotations

import msgspec

SUFFIXES = (".zst", ".lz4", ".xz", ".gz", ".bz2")
"""Of compressed cores."""

SYSTEMD = "systemd-coredump"
PATTERN = "core_pattern"
ABRT = "ABRT"

_BOOT_ID = 32
_MICROSECONDS = 10**14
"""From here on a time is in microseconds, below in seconds: systemd has written both."""

_EARLIEST, _LATEST = 10**9, 2**32
"""Seconds since 1970 that a core was taken at: from 2001 on. A smaller number is something else."""

_MAX_PID = 1 << 22  # PID_MAX_LIMIT
_MAX_NAME = 255


class SavedAs(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a name, or the directory around a core, says of it. What it does not say is None.

    :param by: :data:`SYSTEMD`, :data:`PATTERN` or :data:`ABRT`
    :param time: seconds since 1970 when the process crashed or was dumped
    :param executable: the program's path (ABRT)
    :param package: the package it came in (ABRT)
    """

    by: str
    comm: str | None = None
    uid: int | None = None
    pid: int | None = None
    time: float | None = None
    executable: str | None = None
    package: str | None = None


def parse_name(name: str) -> SavedAs | None:
    """Return what a file name tells, None if it follows no convention that is known here.

    :param name: without directories
    """
    if len(name) > _MAX_NAME:
        return None
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return _systemd(name) or _pattern(name)


def _systemd(name: str) -> SavedAs | None:
    head, *rest = name.split(".")
    if head != "core" or len(rest) < 5:
        return None
    uid, boot, pid, when = rest[-4:]
    if len(boot) != _BOOT_ID or not all(c in "0123456789abcdef" for c in boot):
        return None
    time = _time(when)
    if time is None or _number(uid) is None or _number(pid) is None:
        return None
    comm = _unescaped(".".join(rest[:-4]))
    return SavedAs(SYSTEMD, comm, _number(uid), _number(pid), time)


def _pattern(name: str) -> SavedAs | None:
    """Read ``core.%p``, ``core.%e.%p``, ``core.%e.%p.%t``, ``core-%e-%s-%u-%g-%p-%t``.

    The signal, user and group may be left out. The dump of a program may have dots and dashes in
    its own name, so it is read from the end.
    """
    for mark in "-.":
        head, *rest = name.split(mark)
        if head != "core" or not rest:
            continue
        numbers: list[int] = []
        while rest and len(numbers) < 5 and (found := _number(rest[-1])) is not None:
            numbers.insert(0, found)
            rest.pop()
        if not numbers:
            continue
        time = _time(str(numbers[-1])) if len(numbers) > 1 else None
        if time is not None:
            numbers.pop()
        if not 0 < numbers[-1] <= _MAX_PID:
            return None
        uid = numbers[-3] if len(numbers) >= 3 else None
        return SavedAs(PATTERN, mark.join(rest) or None, uid, numbers[-1], time)
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def _time(text: str) -> float | None:
    number = _number(text)
    if number is None:
        return None
    seconds = number / 1e6 if number >= _MICROSECONDS else float(number)
    return seconds if _EARLIEST <= seconds < _LATEST else None


def _unescaped(text: str) -> str:
    parts = text.split("\\x")
    for index, part in enumerate(parts[1:], 1):
        try:
            parts[index] = chr(int(part[:2], 16)) + part[2:]
        except ValueError:
            parts[index] = "\\x" + part
    return "".join(parts)
