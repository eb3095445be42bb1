"""Brings vringcore's fields and gdb's to one form: C path to integer."""

from __future__ import annotations

from typing import Any

from vringcore.model.values import Absent, EnumValue, Pointer


def flatten(fields: Any, prefix: str = "") -> dict[str, Any]:
    """Return `{"vring.num": 256, ...}`: scalars as integers, char arrays as text."""
    if isinstance(fields, dict):
        flat: dict[str, Any] = {}
        for name, value in fields.items():
            flat.update(flatten(value, f"{prefix}.{name}" if prefix else name))
        return flat
    if isinstance(fields, list):
        flat = {}
        for index, value in enumerate(fields):
            flat.update(flatten(value, f"{prefix}[{index}]"))
        return flat
    if isinstance(fields, Pointer):
        return {prefix: int(fields.address)}
    if isinstance(fields, EnumValue):
        return {prefix: fields.value}
    if isinstance(fields, bool | int):
        return {prefix: int(fields)}
    if isinstance(fields, Absent):
        return {prefix: fields}
    return {prefix: fields}


def symbols(fields: Any, prefix: str = "") -> dict[str, str]:
    """Return the symbols of all pointers as gdb writes them, `name` or `name+offset`."""
    if isinstance(fields, dict):
        found: dict[str, str] = {}
        for name, value in fields.items():
            found.update(symbols(value, f"{prefix}.{name}" if prefix else name))
        return found
    if isinstance(fields, list):
        found = {}
        for index, value in enumerate(fields):
            found.update(symbols(value, f"{prefix}[{index}]"))
        return found
    if isinstance(fields, Pointer) and fields.symbol is not None:
        offset = f"+{fields.offset}" if fields.offset else ""
        return {prefix: fields.symbol + offset}
    return {}


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
