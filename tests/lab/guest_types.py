"""The types of the lab's guest kernel: vmlinux, and the modules in its initramfs."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import zstandard

from tests.lab.guest import STOCK, initramfs, kernel
from tests.lab.paths import guest_directory

MODULES = ("virtio_ring", "virtio_blk", "virtio_scsi")
SETUP_SECTORS, PAYLOAD, SECTOR = 0x1F1, 0x248, 512
"""Where the header of a bzImage has the size of its first part, and place and size of the rest."""

HEADER = 110
SIZE, NAME_SIZE = slice(54, 62), slice(94, 102)
"""Fields of a newc header, in hexadecimal."""


def vmlinux() -> Path | None:
    """Return the kernel with debug information and BTF, None if it was not fetched."""
    return next(iter(sorted(guest_directory().glob("vmlinux-*"))), None)


def types_of(suite: str, directory: Path) -> list[str]:
    """Return the files that hold the types of a suite's kernel, written to ``directory``."""
    base = vmlinux() if suite == STOCK else unpack_kernel(kernel(suite), directory)
    assert base is not None
    return [str(base), *map(str, unpack_modules(suite, directory))]


def unpack_kernel(vmlinuz: Path, directory: Path) -> Path:
    """Write the ELF file that a compressed kernel holds (Documentation/arch/x86/boot.rst)."""
    data = vmlinuz.read_bytes()
    offset, length = struct.unpack_from("<II", data, PAYLOAD)
    start = (data[SETUP_SECTORS] + 1) * SECTOR + offset
    path = directory / "vmlinux"
    unpack = zstandard.ZstdDecompressor().decompressobj()
    path.write_bytes(unpack.decompress(data[start : start + length]))
    return path


def unpack_modules(suite: str, directory: Path) -> list[Path]:
    """Write the modules of virtio out of the initramfs; return their paths."""
    data, at, found = gzip.decompress(initramfs(suite).read_bytes()), 0, []
    while at < len(data):
        head = data[at : at + HEADER]
        size, name_size = int(head[SIZE], 16), int(head[NAME_SIZE], 16)
        name = data[at + HEADER : at + HEADER + name_size - 1].decode()
        start = at + HEADER + name_size + -(HEADER + name_size) % 4
        if Path(name).stem in MODULES:
            path = directory / Path(name).name
            path.write_bytes(data[start : start + size])
            found.append(path)
        at = start + size + -size % 4
        if name == "TRAILER!!!":
            break
    assert found
    return found
