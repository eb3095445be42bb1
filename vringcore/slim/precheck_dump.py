"""Which of a process's mappings the kernel would dump, by smaps and coredump_filter.

The rules are those of ``vma_dump_size`` (Linux, fs/coredump.c) and core(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import CorruptDataError
from vringcore.memory.space import Range
from vringcore.model.values import Absent
from vringcore.qemu.precheck_next import (
    ANONYMOUS_SHARED,
    DEFAULT_FILTER,
    ELF_HEADERS,
    FILE_PRIVATE,
    FILE_SHARED,
    HUGE_PRIVATE,
    HUGE_SHARED,
    PRIVATE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.slim.procfs import ProcessDirectory

MAX_SMAPS = 256 << 20
_PAGE = 4096
_UNNAMED = ("/memfd:", "/SYSV", "/dev/zero", "/anon_hugepage")


class MappingSizes(msgspec.Struct):
    """One mapping of smaps: sizes in bytes, ``flags`` as VmFlags has them."""

    start: int
    end: int
    shared: bool
    path: str
    anonymous: int = 0
    resident: int = 0
    swapped: int = 0
    flags: frozenset[str] = frozenset()


class DumpedMemory(msgspec.Struct, frozen=True):
    """What a core would hold.

    :param apparent: bytes of the file, holes counted
    :param stored: bytes that are in memory or swapped, and so are no holes
    :param writable: writable memory, as :func:`~vringcore.qemu.precheck_ram.held` takes it
    """

    apparent: int
    stored: int
    writable: tuple[Range, ...]


def read_memory(directory: ProcessDirectory, filter_: int | Absent) -> DumpedMemory:
    """Return what a core of the process would hold.

    :raises ProcessAccessError: if the system does not permit to read smaps
    :raises CorruptDataError: if smaps has another form
    """
    bits = DEFAULT_FILTER if isinstance(filter_, Absent) else filter_
    apparent = stored = 0
    writable: list[Range] = []
    for each in mappings(directory.text("smaps", MAX_SMAPS), f"{directory.path}/smaps"):
        size = dumped_size(each, bits)
        apparent += size
        stored += min(size, each.resident + each.swapped)
        if "wr" in each.flags and "ex" not in each.flags:
            writable.append(Range(each.start, each.end - each.start, size))
    return DumpedMemory(apparent, stored, tuple(writable))


def mappings(text: str, where: str) -> Iterator[MappingSizes]:
    """Yield the mappings of an smaps file."""
    current: MappingSizes | None = None
    try:
        for line in text.split("\n"):
            key, colon, value = line.partition(":")
            if colon and " " not in key:
                if current is not None:
                    _take(current, key, value)
            elif line:
                if current is not None:
                    yield current
                current = _begin(line)
    except (ValueError, IndexError) as error:
        raise CorruptDataError("smaps is not understood", where=where, seen=str(error)) from error
    if current is not None:
        yield current


def _begin(line: str) -> MappingSizes:
    # ADDRESS-ADDRESS PERMISSIONS OFFSET DEVICE INODE, spaces, PATH to the end of the line.
    extent, permissions, _, _, rest = line.split(" ", 4)
    start, _, end = extent.partition("-")
    path = rest.partition(" ")[2].lstrip(" ")
    return MappingSizes(int(start, 16), int(end, 16), permissions[3] == "s", path)


def _take(mapping: MappingSizes, key: str, value: str) -> None:
    if key == "VmFlags":
        mapping.flags = frozenset(value.split())
    elif key in _SIZES:
        size = int(value.split()[0]) << 10
        for name in _SIZES[key]:
            setattr(mapping, name, getattr(mapping, name) + size)


_SIZES = {
    "Rss": ("resident",),
    "Swap": ("swapped",),
    "Anonymous": ("anonymous",),
    "Shared_Hugetlb": ("resident",),
    "Private_Hugetlb": ("resident",),
}


def dumped_size(mapping: MappingSizes, bits: int) -> int:
    """Return how many bytes of a mapping the kernel writes with a coredump_filter."""
    whole = mapping.end - mapping.start
    if mapping.path in ("[vdso]", "[vsyscall]"):
        return whole
    if mapping.flags & {"dd", "io"}:  # VM_DONTDUMP, VM_IO
        return 0
    if "ht" in mapping.flags:
        return whole if bits & (HUGE_SHARED if mapping.shared else HUGE_PRIVATE) else 0
    if mapping.shared:
        # What has no name any more counts as anonymous (i_nlink 0).
        unnamed = mapping.path.startswith(_UNNAMED) or mapping.path.endswith(" (deleted)")
        return whole if bits & (ANONYMOUS_SHARED if unnamed else FILE_SHARED) else 0
    from_file = mapping.path.startswith("/")
    # What was never written has no pages of its own, and is left out unless a file is behind it.
    if bits & PRIVATE and (mapping.anonymous or mapping.swapped):
        return whole
    if bits & FILE_PRIVATE and from_file:
        return whole
    return _PAGE if bits & ELF_HEADERS and from_file else 0
