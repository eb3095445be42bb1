"""The types of the lab's guest kernel: vmlinux, and the modules in its initramfs."""

from __future__ import annotations

import gzip
from pathlib import Path

from tests.lab.guest import initramfs
from tests.lab.paths import guest_directory

MODULES = ("virtio_ring", "virtio_blk", "virtio_scsi")
HEADER = 110
SIZE, NAME_SIZE = slice(54, 62), slice(94, 102)
"""Fields of a newc header, in hexadecimal."""


def vmlinux() -> Path | None:
    """Return the kernel with debug information and BTF, None if it was not fetched."""
    return next(iter(sorted(guest_directory().glob("vmlinux-*"))), None)


def unpack_modules(directory: Path) -> list[Path]:
    """Write the modules of virtio out of the initramfs; return their paths."""
    data, at, found = gzip.decompress(initramfs().read_bytes()), 0, []
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
    assert len(found) == len(MODULES)
    return found
