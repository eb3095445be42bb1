"""Compressed sections: SHF_COMPRESSED with zlib or zstd (gABI), and GNU's older ``.zdebug``."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vringcore.errors import ElfFormatError

if TYPE_CHECKING:
    from vringcore.elfcore.headers import ElfHeader


_ELFCOMPRESS_ZLIB = 1
_ELFCOMPRESS_ZSTD = 2
_ZDEBUG_MAGIC = b"ZLIB"

MAX_UNPACKED = 4 << 30
MAX_RATIO = {_ELFCOMPRESS_ZLIB: 1100, _ELFCOMPRESS_ZSTD: 100_000}
"""What the formats can reach at most, roughly: a header that promises more is damaged."""


def unpacked_size(data: bytes, header: ElfHeader) -> tuple[int, int, int]:
    """Return the kind, the unpacked size and where the packed bytes start (``Elf64_Chdr``).

    :raises ElfFormatError: if the header is cut short
    """
    layout = struct.Struct(header.byteorder + ("IIQQ" if header.elf_class == 64 else "III"))
    if len(data) < layout.size:
        raise ElfFormatError(
            "a compressed section is cut inside its header", seen=f"{len(data)} bytes"
        )
    fields = layout.unpack_from(data)
    return fields[0], fields[-2], layout.size


def unpack(data: bytes, header: ElfHeader, name: str) -> bytes:
    """Return the contents of an SHF_COMPRESSED section.

    :raises ElfFormatError: an unknown kind, damage, or a size that does not come true
    """
    kind, size, start = unpacked_size(data, header)
    return _unpack(kind, data, start, size, name)


def unpack_zdebug(data: bytes, name: str) -> bytes:
    """Return the contents of a ``.zdebug_*`` section: "ZLIB", the size big-endian, a zlib stream.

    :raises ElfFormatError: no such header, damage, or a size that does not come true
    """
    if data[:4] != _ZDEBUG_MAGIC or len(data) < 12:
        raise ElfFormatError(
            f"section {name} is not compressed as its name says",
            seen=data[:4].hex(" ") or "nothing",
            expected='"ZLIB" and a size',
        )
    return _unpack(_ELFCOMPRESS_ZLIB, data, 12, int.from_bytes(data[4:12], "big"), name)


def _unpack(kind: int, data: bytes, start: int, size: int, name: str) -> bytes:
    ratio = MAX_RATIO.get(kind)
    if ratio is None:
        raise ElfFormatError(
            f"section {name} is compressed in a way that is not known",
            seen=f"ch_type {kind}",
            expected="1 (zlib) or 2 (zstd)",
        )
    if size > min(MAX_UNPACKED, len(data) * ratio):
        raise ElfFormatError(
            f"section {name} claims an impossible unpacked size",
            seen=f"{size} bytes from {len(data)}",
        )
    packed = memoryview(data)[start:]
    result = _zlib(packed, size, name) if kind == _ELFCOMPRESS_ZLIB else _zstd(packed, size, name)
    if len(result) != size:
        raise ElfFormatError(
            f"section {name} unpacks to another size than its header says",
            seen=f"{len(result)} bytes",
            expected=str(size),
        )
    return result


def _zlib(packed: memoryview, size: int, name: str) -> bytes:
    import zlib

    try:
        return zlib.decompressobj().decompress(packed, size) if size else b""
    except zlib.error as error:
        raise ElfFormatError(f"section {name} cannot be unpacked", seen=str(error)) from error


def _zstd(packed: memoryview, size: int, name: str) -> bytes:
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
            return reader.read(size)
    except zstandard.ZstdError as error:
        raise ElfFormatError(f"section {name} cannot be unpacked", seen=str(error)) from error
