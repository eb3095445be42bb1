"""Brings vringcore's fields and gdb's to one form: C path to integer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vringcore.model.values import EnumValue, Pointer


def leaves(fields: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every scalar under its C path, `vring.num` or `name[3]`."""
    if isinstance(fields, dict):
        for name, value in fields.items():
            yield from leaves(value, f"{path}.{name}" if path else name)
    elif isinstance(fields, list):
        for index, value in enumerate(fields):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path, fields


def flatten(fields: Any) -> dict[str, Any]:
    """Return `{"vring.num": 256, ...}`: scalars as integers, char arrays as text."""
    return {path: number(value) for path, value in leaves(fields)}


def number(value: Any) -> Any:
    """Return a scalar as gdb_truth has it; an absent value stays what it is."""
    if isinstance(value, Pointer):
        return int(value.address)
    if isinstance(value, EnumValue):
        return value.value
    return int(value) if isinstance(value, int) else value


def symbols(fields: Any) -> dict[str, str]:
    """Return the symbols of all pointers as gdb writes them, `name` or `name+offset`."""
    return {
        path: value.symbol + (f"+{value.offset}" if value.offset else "")
        for path, value in leaves(fields)
        if isinstance(value, Pointer) and value.symbol is not None
    }


def char_array(truth: Any) -> Any:
    """Turn gdb_truth's hex of a char array into the text that vringcore shows."""
    if not isinstance(truth, str):
        return truth
    return bytes.fromhex(truth).rstrip(b"\0").decode("utf-8", "backslashreplace")


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return a line for every path that one side lacks or has with another value."""
    lines = [f"{path}: gdb has {theirs[path]}, vringcore nothing" for path in theirs.keys() - ours]
    lines += [f"{path}: vringcore has {ours[path]}, gdb nothing" for path in ours.keys() - theirs]
    for path in ours.keys() & theirs.keys():
        if ours[path] != char_array(theirs[path]):
            lines.append(f"{path}: vringcore {ours[path]!r}, gdb {theirs[path]!r}")
    return sorted(lines)


def held_back(queue: dict[str, Any]) -> int:
    """Return how many entries have ended and wait for those before them (VIRTIO_F_IN_ORDER).

    :param queue: as gdb.json has it
    """
    fields, elements = queue["fields"], queue.get("used_elems", [])
    position, ended = 0, 0
    while elements and position < fields["inuse"]:
        element = elements[(fields["used_idx"] + position) % len(elements)]
        ended += element["in_order_filled"] * element["ndescs"]
        position += element["ndescs"]
    return ended
