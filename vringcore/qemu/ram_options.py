"""How much RAM a QEMU was asked for, and backed by what: from its command line alone."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_UNITS = {"": 20, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_DEFAULT = 128 << 20
"""Without -m, of nearly every machine type (``MachineClass.default_ram_size``)."""

_ANONYMOUS, _FILE, _MEMFD = "memory-backend-ram", "memory-backend-file", "memory-backend-memfd"


class RamBlock(msgspec.Struct, frozen=True):
    """A piece of RAM that the command line asks for.

    :param size: in bytes
    :param backend: ``memory-backend-…``, "" for ``-m`` alone
    :param shared: mapped so that others see what is written
    :param huge: in pages of hugetlbfs, as far as the command line tells
    :param dumped: False where the command line keeps it out of cores
    :param file: its path, of memory-backend-file
    """

    size: int
    backend: str = ""
    shared: bool = False
    huge: bool = False
    dumped: bool = True
    file: str = ""


def ram_of(arguments: Sequence[str]) -> list[RamBlock]:
    """Return the RAM that a command line asks for, largest first: its back-ends, or -m."""
    dumped = all(
        options.get("dump-guest-core", "on") != "off"
        for options in _options(arguments, "machine", "M")
    )
    backends = [
        block
        for options in _options(arguments, "object")
        if (block := _backend(options, dumped=dumped)) is not None
    ]
    total = _memory(arguments)
    path = next((o.get("", "") for o in _options(arguments, "mem-path")), "")
    if sum(block.size for block in backends) < total:
        rest = total - sum(block.size for block in backends)
        backends.append(RamBlock(rest, dumped=dumped, huge="huge" in path, file=path))
    return sorted(backends, key=lambda block: -block.size)


def _memory(arguments: Sequence[str]) -> int:
    found = [o.get("size") or o.get("", "") for o in _options(arguments, "m")]
    return parse_size(found[-1]) if found else _DEFAULT


def _backend(options: dict[str, str], *, dumped: bool) -> RamBlock | None:
    kind = options.get("qom-type") or options.get("", "")
    if not kind.startswith("memory-backend-"):
        return None
    path = options.get("mem-path", "")
    return RamBlock(
        parse_size(options.get("size", ""), unit=""),
        kind,
        # A memfd is shared unless it is said otherwise, the others are not.
        shared=_on(options.get("share", "on" if kind == _MEMFD else "off")),
        huge=_on(options.get("hugetlb", "off")) or "huge" in path,
        dumped=dumped and _on(options.get("dump", "on")),
        file=path,
    )


def _options(arguments: Sequence[str], *names: str) -> Iterator[dict[str, str]]:
    """Yield the keys and values of an option each time it is given; the first may have no key."""
    for name, value in pairwise(arguments):
        if name.startswith("-") and name.lstrip("-") in names:
            yield _json(value) if value.startswith("{") else _keys(value)


def _keys(value: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, part in enumerate(value.replace(",,", "\0").split(",")):
        key, equals, text = part.replace("\0", ",").partition("=")
        if equals:
            found[key] = text
        elif number == 0:
            found[""] = key
        else:
            found[key] = "on"
    return found


def _json(value: str) -> dict[str, str]:
    try:
        decoded = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    words = {True: "on", False: "off"}
    return {
        key: words[each] if isinstance(each, bool) else f"{each}" for key, each in decoded.items()
    } | ({"size": f"{decoded['size']}B"} if isinstance(decoded.get("size"), int) else {})


def _on(text: str) -> bool:
    return text in ("on", "yes", "true", "y")


def parse_size(text: str, unit: str = "M") -> int:
    """Return a size in bytes as QEMU reads it (``qemu_strtosz``), 0 for what is none.

    :param unit: of a number without one
    """
    text = text.strip().upper().removesuffix("IB")
    number, suffix = (text, unit) if text[-1:].isdecimal() else (text[:-1], text[-1:])
    shift = _UNITS.get(suffix or "B")
    if shift is None or len(number) > 20 or not number.replace(".", "", 1).isdecimal():
        return 0
    if not number.isascii():
        return 0
    return int(float(number) * (1 << shift)) if "." in number else int(number) << shift
