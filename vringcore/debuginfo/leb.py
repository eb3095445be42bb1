"""Little-endian base 128 numbers (DWARF 5, section 7.6)."""

from __future__ import annotations

from vringcore.errors import DwarfError

MAX_BYTES = 16


def uleb(data: bytes, pos: int) -> tuple[int, int]:
    """Return the unsigned number at ``pos`` and where it ends.

    :raises DwarfError: if it does not end within 16 bytes
    :raises IndexError: if the data ends first
    """
    byte = data[pos]
    pos += 1
    if byte < 0x80:
        return byte, pos
    value = byte & 0x7F
    for shift in range(7, 7 * MAX_BYTES, 7):
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
    raise DwarfError("a number in base 128 without an end", where=f"byte {pos:#x}")


def sleb(data: bytes, pos: int) -> tuple[int, int]:
    """Return the signed number at ``pos`` and where it ends; errors as in :func:`uleb`."""
    start = pos
    value, pos = uleb(data, pos)
    if data[pos - 1] & 0x40:
        value -= 1 << (7 * (pos - start))
    return value, pos
