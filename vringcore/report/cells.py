"""Values as text: what a cell of a table or the right side of a listing shows."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from vringcore.model.values import Absent, Address, EnumValue, Flags, Pointer

NOTHING = "-"
"""Shown where there is nothing by design: no serial given, VIRTIO_F_EVENT_IDX not negotiated."""


def clean(text: str) -> str:
    """Return text from a core with everything escaped that could steer a terminal.

    Control, format (bidirectional overrides among them) and unassigned characters, and blanks
    other than the space, become ``\\xNN`` or ``\\uNNNN``.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(ord(each)) for each in text)


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def hexadecimal(value: int) -> str:
    """Return an address or a feature word as people write it."""
    return f"{int(value):#x}"


class Footnotes:
    """Numbers the reasons for absent values, so that a cell can stay narrow.

    A reason with the same hint has one number, however many values it took away.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._places: dict[tuple[str, str], int | None] = {}

    def mark(self, absent: Absent) -> str:
        """Return the short form of an absent value: ``absent[1]``."""
        key = (absent.reason, absent.hint)
        number = self._numbers.setdefault(key, len(self._numbers) + 1)
        self._places.setdefault(key, absent.address)
        return f"absent[{number}]"

    def lines(self) -> list[str]:
        """Return the footnotes in the order of their numbers."""
        return [
            f"[{number}] absent: {clean(reason)}{self._at(reason, hint)}"
            + (f" - {clean(hint)}" if hint else "")
            for (reason, hint), number in self._numbers.items()
        ]

    def _at(self, reason: str, hint: str) -> str:
        place = self._places[(reason, hint)]
        return "" if place is None else f" (first at {hexadecimal(place)})"

    def text(self, value: Any) -> str:
        """Return a value of the model as one short text; an absent one gets a footnote."""
        return self.mark(value) if isinstance(value, Absent) else text_of(value)


def text_of(value: Any) -> str:
    """Return a value of the model, other than an absent one, as one short text."""
    if value is None or value is UNSET:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Address):
        return hexadecimal(value)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Flags):
        names = " ".join(clean(name) for name in value.names)
        return f"{hexadecimal(value.value)} {names}".rstrip()
    if isinstance(value, EnumValue):
        return f"{clean(value.name)} ({value.value})" if value.name else str(value.value)
    if isinstance(value, Pointer):
        return _pointer(value)
    return clean(str(value))


def _pointer(pointer: Pointer) -> str:
    text = hexadecimal(pointer.address)
    if pointer.symbol is None:
        return text
    offset = f"+{pointer.offset}" if pointer.offset else ""
    return f"{text} <{clean(pointer.symbol)}{offset}>"


def flatten(value: Any, notes: Footnotes, path: str = "") -> list[tuple[str, str]]:
    """Return a C structure as (member path, text): ``("vring.num", "256")``.

    Arrays of plain values stay on one line, runs of one value as ``0 x 64``; arrays of structures
    go member by member.
    """
    if isinstance(value, dict):
        inner = [
            pair
            for name, member in value.items()
            for pair in flatten(member, notes, f"{path}.{name}" if path else clean(name))
        ]
        return inner or [(path, "{}")]
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, (dict, list, tuple)) for item in value):
            return [
                pair
                for index, item in enumerate(value)
                for pair in flatten(item, notes, f"{path}[{index}]")
            ]
        return [(path, _array([notes.text(item) for item in value]))]
    return [(path, notes.text(value))]


def _array(items: list[str]) -> str:
    runs: list[tuple[str, int]] = []
    for item in items:
        if runs and runs[-1][0] == item:
            runs[-1] = (item, runs[-1][1] + 1)
        else:
            runs.append((item, 1))
    return "{" + ", ".join(item if n == 1 else f"{item} x {n}" for item, n in runs) + "}"


def seconds(nanoseconds: int) -> str:
    """Return a duration for people: ``850 ms``, ``12.3 s``, ``2 h 05 min``."""
    total = nanoseconds / 1e9
    if total < 1:
        return f"{total * 1e3:.0f} ms"
    if total < 120:
        return f"{total:.1f} s"
    minutes, rest = divmod(round(total), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def about(count: int) -> str:
    """Return a number of bytes for people, rounded: ``512 B``, ``254.7 KiB``, ``1.2 GiB``."""
    if count < 1024:
        return f"{count} B"
    scaled = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        scaled /= 1024
        if scaled < 1000 or unit == "TiB":
            break
    return f"{scaled:.1f} {unit}"


def size(count: int) -> str:
    """Return a number of bytes for people, exactly: ``512 B``, ``64 KiB``, ``4112 B``."""
    units = iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while count and count % 1024 == 0 and unit != "TiB":
        count //= 1024
        unit = next(units)
    return f"{count} {unit}"
