"""What a file is, by its content: a core, an archive, or something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.elfcore.compressed import chunks_of
from vringcore.elfcore.headers import ELF_MAGIC, ET_CORE
from vringcore.errors import VringcoreError

if TYPE_CHECKING:
    from vringcore.memory.files import FileSource

CORE = "core"
TAR = "tar"
PACKED_TAR = "packed tar"
ZIP = "zip"
OTHER = "other"

ARCHIVES = (TAR, PACKED_TAR, ZIP)

_START = 512
_TAR_AT = 257
_TAR = b"ustar"
_ZIPS = (b"PK\x03\x04", b"PK\x05\x06")
_TYPE_AT = 16
_DATA_AT = 5
_NOTHING_PACKED = 32
"""Bytes that an empty file takes at most in any of the packings."""


def kind_of(source: FileSource) -> str:
    """Return what a file is: :data:`CORE`, one of :data:`ARCHIVES`, or :data:`OTHER`.

    Of a compressed one the beginning is unpacked. What is compressed and damaged before it tells
    is a core: whoever scans wants to hear of it.

    :raises VringcoreError: if the file cannot be read
    """
    start = source.read(0, _START)
    found = _kind_of(start)
    if found != OTHER or not start:
        return found
    packed = chunks_of(source)
    if packed is None:
        return OTHER
    start = b""
    try:
        for chunk in packed:
            start += chunk[: _START - len(start)]
            if len(start) >= _START:
                break
    except VringcoreError:
        return CORE if not start or start.startswith(ELF_MAGIC) else OTHER
    if not start:  # cut before its first block, or made of nothing
        return CORE if source.size > _NOTHING_PACKED else OTHER
    found = _kind_of(start)
    return PACKED_TAR if found == TAR else found if found == CORE else OTHER


def _kind_of(start: bytes) -> str:
    if start.startswith(ELF_MAGIC):
        big = start[_DATA_AT : _DATA_AT + 1] == b"\x02"
        kind = int.from_bytes(start[_TYPE_AT : _TYPE_AT + 2], "big" if big else "little")
        # One that is cut within its header may have been one.
        return CORE if kind == ET_CORE or len(start) < _TYPE_AT + 2 else OTHER
    if start[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return TAR
    return ZIP if start.startswith(_ZIPS) else OTHER
