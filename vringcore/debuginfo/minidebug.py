"""``.gnu_debugdata``: an ELF file inside a stripped one, xz-compressed, with names of functions.

"MiniDebugInfo" of Fedora and its relatives: a ``.symtab`` of the functions that ``.dynsym`` lacks.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from vringcore.debuginfo.elf import ElfFile
from vringcore.errors import ElfFormatError
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from typing import IO

MAX_UNPACKED = 256 << 20
"""Bytes; that of a QEMU has less than one million."""

MAX_MEMORY = 128 << 20
"""Bytes that unpacking may take: a header may ask for a dictionary of 4 GiB."""

_CHUNK = 1 << 20


def packed_symbols(elf: ElfFile) -> ElfFile | None:
    """Return the file in ``.gnu_debugdata``, None if there is none. Close it.

    :raises ElfFormatError: if it cannot be unpacked, or is no ELF file
    """
    section = elf.section(".gnu_debugdata")
    if section is None:
        return None
    with tempfile.TemporaryFile() as file:
        size = _unpack(section.data, file)
        source = FileSource(
            os.dup(file.fileno()), f"{elf.path}:.gnu_debugdata", size, "packed symbol table"
        )
    try:
        return ElfFile(source)
    except BaseException:
        source.close()
        raise


def _unpack(data: bytes, file: IO[bytes]) -> int:
    import lzma

    size = 0
    try:
        unpacker = lzma.LZMADecompressor(memlimit=MAX_MEMORY)
        while not unpacker.eof:
            before, data = data, b""
            chunk = unpacker.decompress(before, _CHUNK)
            if not chunk and unpacker.needs_input and not unpacker.eof:
                raise lzma.LZMAError("it ends too soon")
            size += len(chunk)
            if size > MAX_UNPACKED:
                raise lzma.LZMAError(f"more than {MAX_UNPACKED} bytes")
            file.write(chunk)
    except lzma.LZMAError as error:
        raise ElfFormatError(
            "section .gnu_debugdata cannot be unpacked", seen=str(error)
        ) from error
    file.flush()
    return size
