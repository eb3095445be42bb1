"""A search for bytes in the guest's RAM."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vringcore.addresses import GuestAddress
from vringcore.errors import MemoryFault, UsageError
from vringcore.memory.gaps import GapKind
from vringcore.model.memory import MemoryHit, MemorySearch
from vringcore.model.values import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vringcore.memory.space import Piece
    from vringcore.qemu.guestmap import GuestMap
    from vringcore.qemu.process import Process

    Progress = Callable[[int, int], None]

K = TypeVar("K")

MAX_PATTERN = 64 * 1024
MAX_HITS = 100


class Scan:
    """Looks through guest RAM in the order of guest-physical addresses, holding a piece at a time.

    :ivar searched: bytes looked through so far
    :ivar missing: bytes of RAM so far that the core does not hold
    """

    def __init__(self, process: Process, progress: Progress | None = None) -> None:
        self._memory = process.guest_memory
        self._progress = progress
        self._ranges = self._memory.ranges()
        self.total = sum(each.size for each in self._ranges)
        self.searched = 0
        self.missing = 0

    def find(self, pattern: bytes) -> Iterator[int]:
        """Yield the guest-physical address of each place; places may overlap."""
        for _, address in self.find_any({0: pattern}):
            yield address

    def find_any(self, patterns: Mapping[K, bytes]) -> Iterator[tuple[K, int]]:
        """Yield places of several patterns in one pass: which, and the guest-physical address.

        What is taken out of ``patterns`` meanwhile is no longer looked for; with none left the
        search ends.
        """
        keep = max((len(pattern) for pattern in patterns.values()), default=1) - 1
        before, reach = b"", -1
        for piece in self._pieces():
            if piece.data is None:
                before, reach = b"", -1
                continue
            data = before + piece.data if reach == piece.address else piece.data
            first = piece.address + piece.size - len(data)
            for key, pattern in list(patterns.items()):
                at = data.find(pattern, max(0, len(data) - piece.size - len(pattern) + 1))
                while at >= 0 and key in patterns:
                    yield key, first + at
                    at = data.find(pattern, at + 1)
            if not patterns:
                return
            reach = piece.address + piece.size
            before = data[max(0, len(data) - keep) :]

    def _pieces(self) -> Iterator[Piece]:
        for each in self._ranges:
            for piece in self._memory.scan(GuestAddress(each.address), each.size):
                if piece.data is not None:
                    self.searched += piece.size
                elif piece.gap is not None and piece.gap.kind is not GapKind.NOT_RAM:
                    self.missing += piece.size
                yield piece
                if self._progress is not None:
                    self._progress(self.searched + self.missing, self.total)


def search(
    process: Process,
    where: GuestMap,
    pattern: bytes,
    *,
    limit: int = MAX_HITS,
    progress: Progress | None = None,
) -> MemorySearch:
    """Return where bytes lie in guest RAM, lowest addresses first.

    :param limit: the most places to return
    :param progress: called with the bytes done and their number in all
    :raises UsageError: for an empty or oversized pattern, or a limit below 1
    """
    if not 0 < len(pattern) <= MAX_PATTERN or limit < 1:
        raise UsageError(
            "such a search is not possible",
            seen=f"{len(pattern)} bytes, at most {limit} hits",
            expected=f"1 to {MAX_PATTERN} bytes, and at least one hit",
        )
    scan, complete = Scan(process, progress), True
    hits: list[MemoryHit] = []
    for address in scan.find(pattern):
        if len(hits) == limit:
            complete = False
            break
        hits.append(
            MemoryHit(Address(address), where.name_at(address), _file_offset(process, address))
        )
    if progress is not None and not complete:
        progress(scan.total, scan.total)
    return MemorySearch(pattern.hex(), scan.searched, scan.missing, complete, tuple(hits))


def _file_offset(process: Process, address: int) -> int | None:
    try:
        host = process.guest_memory.host_address(GuestAddress(address))
    except MemoryFault:
        return None
    return process.core.memory.file_offset_of(host)
