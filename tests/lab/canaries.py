"""Where canaries lie in a finished core: they must be there, or looking for them proves nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_CHUNK = 16 << 20


def count(core: Path, texts: Mapping[str, str], ram_blocks: Sequence[Any]) -> dict[str, Any]:
    """How often each text is in the guest's memory and elsewhere in a core.

    :param texts: by name
    :param ram_blocks: as gdb.json has them
    """
    guest = [(block["host"], block["host"] + block["used_length"]) for block in ram_blocks]
    found = {name: {"guest_ram": 0, "elsewhere": 0} for name in texts}
    longest = max((len(text) for text in texts.values()), default=1)
    for address, data in _pieces(core, longest - 1):
        for name, text in texts.items():
            for at in _places(data, text.encode()):
                inside = any(start <= address + at < end for start, end in guest)
                found[name]["guest_ram" if inside else "elsewhere"] += 1
    return found


def _places(data: bytes, needle: bytes) -> Iterator[int]:
    at = data.find(needle)
    while at >= 0:
        yield at
        at = data.find(needle, at + len(needle))


def _pieces(core: Path, overlap: int) -> Iterator[tuple[int, bytes]]:
    """The memory in pieces; each begins with the end of the one before, too short for a text."""
    with core.open("rb") as file:
        head = file.read(64)
        (place,) = struct.unpack_from("<Q", head, 32)
        (number,) = struct.unpack_from("<H", head, 56)
        file.seek(place)
        table = file.read(56 * number)
        for kind, _, offset, address, _, size, _, _ in struct.iter_unpack("<IIQQQQQQ", table):
            if kind != 1:  # PT_LOAD
                continue
            before = b""
            for done in range(0, size, _CHUNK):
                file.seek(offset + done)
                data = before + file.read(min(_CHUNK, size - done))
                yield address + done - len(before), data
                before = data[len(data) - overlap :] if overlap else b""
