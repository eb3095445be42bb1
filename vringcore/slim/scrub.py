"""Takes secrets out of memory that is given away.

A secret is what :mod:`vringcore.qemu.redact` hides in an argument. The argument itself is not kept;
QEMU has copies in its options, in file names and on stacks, and each is overwritten with ``x``, so
that lengths and all else stay as they were.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import msgspec

from vringcore.qemu.redact import REDACTED, redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MIN_SECRET = 6
"""Bytes. A shorter one would be found everywhere; it is only taken out of its argument."""

MIN_ENVIRONMENT = 8
"""Bytes of the value of an environment variable that is looked for on stacks."""

MASK = b"x"


def secrets_of(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the secrets in a command line, longest first."""
    found: set[str] = set()
    for argument, shown in zip(argv, redact(argv), strict=True):
        if argument != shown:
            found.update(_hidden(argument, shown))
    return tuple(sorted((s for s in found if len(s) >= MIN_SECRET), key=lambda s: (-len(s), s)))


def _hidden(argument: str, shown: str) -> Iterator[str]:
    """Yield the parts of an argument that are ``<redacted>`` in what is shown of it."""
    values = list(_json_values(argument, shown))
    between = _between(argument, shown.split(REDACTED))
    if between is not None:
        yield from between
        for value in between:
            yield from _words(value)
    yield from values
    if between is not None or values:
        return
    # Written anew in a form that cannot be followed: all that is no longer there is a secret.
    matcher = SequenceMatcher(None, argument, shown, autojunk=False)
    for kind, start, end, _, _ in matcher.get_opcodes():
        if kind in ("replace", "delete"):
            yield argument[start:end]


def _words(value: str) -> Iterator[str]:
    """Yield what a command that is hidden as a whole may hold: the ends of ``-u user:password``."""
    for word in value.split() if " " in value else ():
        end = max(map(word.rfind, ":=@"))
        if end >= 0:
            yield word[end + 1 :].strip("'\"")


def _between(text: str, parts: Sequence[str]) -> list[str] | None:
    """Return what stands between parts that follow each other in a text; None if they do not."""
    if not text.startswith(parts[0]) or not text.endswith(parts[-1]):
        return None
    found, place = [], len(parts[0])
    for index, part in enumerate(parts[1:], start=1):
        last = index == len(parts) - 1
        end = len(text) - len(part) if last else text.find(part, place)
        if end < place:
            return None
        found.append(text[place:end])
        place = end + len(part)
    return found


def _json_values(argument: str, shown: str) -> Iterator[str]:
    """Yield the strings of JSON that were hidden, as they are and as JSON writes them."""
    start = argument.find("{")
    try:
        before = msgspec.json.decode(argument[start:])
        after = msgspec.json.decode(shown[shown.find("{") :])
    except (msgspec.DecodeError, RecursionError):
        return
    for value in _differing(before, after):
        yield value
        yield msgspec.json.encode(value).decode()[1:-1]


def _differing(before: object, after: object) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            yield from _differing(value, after.get(name))
    elif isinstance(before, list) and isinstance(after, list):
        for one, other in zip(before, after, strict=False):
            yield from _differing(one, other)
    elif before != after:
        yield from _strings(before) if not isinstance(after, str) else _of_text(before, after)


def _of_text(before: object, after: str) -> Iterator[str]:
    if not isinstance(before, str) or after == REDACTED:
        yield from _strings(before)
        return
    yield from _between(before, after.split(REDACTED)) or [before]


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


class Scrubber:
    """Overwrites byte strings wherever they stand.

    :param secrets: what to overwrite, longest first
    :ivar masked: how many places were overwritten
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._needles = [s.encode("utf-8", "surrogateescape") for s in secrets]
        self.masked = 0

    def __call__(self, data: bytes) -> bytes:
        """Return the bytes without any secret, as many as they were."""
        for needle in self._needles:
            count = data.count(needle)
            if count:
                self.masked += count
                data = data.replace(needle, MASK * len(needle))
        return data


def environment_values(strings: Iterable[bytes], argv: Sequence[str]) -> list[str]:
    """Return the values of an environment that may not be seen on a stack.

    One that a word of the command line has too is no secret of the environment.
    """
    said = "\0".join(argv)
    values = {s.partition(b"=")[2].decode("utf-8", "surrogateescape") for s in strings}
    found = (v for v in values if len(v) >= MIN_ENVIRONMENT and v not in said)
    return sorted(found, key=lambda v: (-len(v), v))
