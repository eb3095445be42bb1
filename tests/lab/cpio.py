"""Writes the "newc" cpio archives that Linux unpacks as an initramfs."""

from __future__ import annotations

import gzip

_DIRECTORY = 0o040755
_EXECUTABLE = 0o100755
_CHARACTER_DEVICE = 0o020600


def directory(path: str) -> bytes:
    """One directory entry."""
    return _entry(path, _DIRECTORY, b"")


def executable(path: str, content: bytes) -> bytes:
    """One regular file with mode 755."""
    return _entry(path, _EXECUTABLE, content)


def character_device(path: str, major: int, minor: int) -> bytes:
    """One character device node."""
    return _entry(path, _CHARACTER_DEVICE, b"", major, minor)


def archive(entries: list[bytes]) -> bytes:
    """A whole archive, gzip-compressed; archives may be concatenated for the kernel."""
    return gzip.compress(b"".join(entries) + _entry("TRAILER!!!", 0, b""), mtime=0)


def _entry(path: str, mode: int, content: bytes, major: int = 0, minor: int = 0) -> bytes:
    name = path.encode() + b"\0"
    inode, owner, group, links, modified = 0, 0, 0, 1, 0
    numbers = (inode, mode, owner, group, links, modified, len(content), 0, 0, major, minor)
    header = b"070701" + b"".join(b"%08X" % number for number in (*numbers, len(name), 0))
    return _padded(header + name) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)
