"""Where the guest's virtio driver keeps its queues: a search of guest memory.

``struct vring_virtqueue`` holds the address of the ring that the driver gave the device, which QEMU
knows: an IOVA behind an IOMMU, else guest-physical. It is looked for in one pass for all devices,
by one queue of each; the others are on the same list (``virtio_device.vqs``).

A place is taken for a queue only if everything agrees that can: the address, the queue's index, its
size, whether it is packed, and the list's pointers, which lead back to it. Those are virtual. Linux
maps all physical memory at one virtual address, a multiple of 1 GiB with pages of 4 KiB; the list
tells which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore import ring_math
from vringcore.addresses import GuestAddress, HostAddress
from vringcore.errors import LayoutMissingError, MemoryFault, VringcoreError
from vringcore.layout.types import Record
from vringcore.memory.gaps import Gap, GapKind
from vringcore.model.report import Limitation
from vringcore.qemu.driver_structs import LIST, RING_ADDRESS, ListHead, VringVirtqueue
from vringcore.qemu.guestsearch import Scan
from vringcore.qemu.paged_space import PAGE_BITS, Mapping, PagedSpace
from vringcore.qemu.symbols import ModuleSymbols
from vringcore.qemu.virtqueues import VIRTIO_QUEUE_MAX
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vringcore.layout.provider import Layouts
    from vringcore.qemu.flat_space import GuestSpace
    from vringcore.qemu.process import Process

    Progress = Callable[[int, int], None]
    _Tables = Callable[[int], Mapping]
    Key = tuple[int, int]

GIB = 1 << 30
UPPER_HALF = 1 << 63
WRAP_BIT = 15
MAX_PLACES = 1 << 18
"""Of one needle that are looked at: in a guest that fills its memory with it the search ends."""

MAX_GIBS = 1 << 14
MIN_NEEDLE = 3


class Wanted(msgspec.Struct, frozen=True):
    """A queue to look for, as QEMU and the ring show it.

    :param address: of the ring, as the driver gave it
    :param avail_idx: in guest memory; None where it is not known, or the ring is packed
    :param used: for a packed ring slot and wrap counter up to which chains were given back
    """

    device: int
    index: int
    size: int
    address: int
    packed: bool
    avail_idx: int | None = None
    used: tuple[int, bool] | None = None

    @property
    def key(self) -> Key:
        """Which queue of which device."""
        return self.device, self.index


class KernelSpace(PagedSpace[HostAddress]):
    """What the guest's kernel sees: physical memory at ``start``, the rest by a vCPU's tables."""

    def __init__(self, memory: GuestSpace, start: int, size: int, tables: _Tables | None) -> None:
        super().__init__(memory, "the guest's kernel memory")
        self._start, self._size, self._tables = start, size, tables

    def look_up(self, address: int) -> Mapping:
        """Return the page that an address lies in."""
        page = address & -(1 << PAGE_BITS)
        if self._start <= address < self._start + self._size:
            return Mapping(page, 1 << PAGE_BITS, page - self._start)
        if self._tables is not None:
            return self._tables(address)
        hint = "no page tables of the guest are known, and it is not where all memory is mapped"
        gap = Gap(GapKind.UNMAPPED, page, 1 << PAGE_BITS, hint)
        return Mapping(page, 1 << PAGE_BITS, None, gap)


class DriverSearch:
    """The search of one core.

    :ivar found: the driver's queues, by device and index
    :ivar direct_map: guest-virtual address of physical address 0, None before a queue was found
    :ivar missing: bytes of guest RAM that the core does not hold
    :ivar searched: bytes of guest RAM looked through
    """

    def __init__(self, process: Process, layouts: Layouts, progress: Progress | None) -> None:
        self._process, self._layouts = process, layouts
        self._memory = process.guest_memory
        self._end = max((each.address + each.size for each in self._memory.ranges()), default=0)
        self._physical = self._views_at(0, None)
        self._list = self._offset((LIST,))
        self._scan = Scan(process, progress)
        self.views = self._physical
        self.found: dict[Key, VringVirtqueue] = {}
        self.limits: list[Limitation] = []
        self.direct_map: int | None = None

    @property
    def missing(self) -> int:
        """Bytes of guest RAM, as far as it was searched, that the core does not hold."""
        return self._scan.missing

    @property
    def searched(self) -> int:
        """Bytes of guest RAM that were looked through."""
        return self._scan.searched

    def run(self, wanted: Sequence[Wanted]) -> None:
        """Fill in ``found``: one pass over guest memory, to its end only if a queue is missing."""
        firsts: dict[int, Wanted] = {}
        for each in wanted:
            if each.address:
                firsts.setdefault(each.device, each)
        needles = {device: _needle(each.address) for device, each in firsts.items()}
        looked_at = dict.fromkeys(needles, 0)
        doubtful: list[tuple[Wanted, int, int]] = []
        for device, place in self._scan.find_any(needles):
            looked_at[device] += 1
            if looked_at[device] > MAX_PLACES:
                del needles[device]
                self.limits.append(_too_many(firsts[device]))
                continue
            first = firsts[device]
            for start, certain in self._examine(first, place):
                if not certain:
                    doubtful.append((first, start, place))
                    continue
                del needles[device]
                self._take(first, start, place, wanted)
        for first, start, place in doubtful:
            if first.key not in self.found and self.direct_map in (None, start):
                self._take(first, start, place, wanted)

    def _examine(self, wanted: Wanted, hit: int) -> Iterator[tuple[int, bool]]:
        """Yield, if a queue lies there, where the kernel maps physical memory, and if all agrees.

        :param hit: where its ring's address was found, less the zero bytes that it begins with
        """
        place = self._place(wanted, hit)
        if place % 8 or place < 0:
            return
        try:
            word = self._memory.read(GuestAddress(hit - _zeroes(wanted.address)), 8)
            if int.from_bytes(word, "little") != wanted.address:
                return
            found = self._physical.at(VringVirtqueue, place)
            if is_queue(found, wanted):
                start = self._direct_map(place + self._list)
                if start is not None and self.direct_map in (None, start):
                    yield start, agrees(found, wanted)
        except VringcoreError:
            return

    def _place(self, wanted: Wanted, hit: int) -> int:
        return hit - _zeroes(wanted.address) - self._offset(RING_ADDRESS[wanted.packed])

    def _direct_map(self, place: int) -> int | None:
        """Return where the kernel maps physical address 0, by a list's entry; None if by none.

        The next entry's physical address is known but for its whole GiB, and it points back.
        """
        entry = self._physical.at(ListHead, place)
        beyond, before = int(entry.next), int(entry.prev)
        if min(beyond, before) < UPPER_HALF or beyond % 8 or before % 8:
            return None
        for gib in range(min((self._end + GIB - 1) // GIB, MAX_GIBS)):
            physical = gib * GIB + beyond % GIB
            start = beyond - physical
            if start < UPPER_HALF:
                break
            try:
                if self._physical.at(ListHead, physical).prev == start + place:
                    return start
            except MemoryFault:
                continue
        return None

    def _take(self, first: Wanted, start: int, hit: int, wanted: Iterable[Wanted]) -> None:
        """Note a queue that was found, and the others of its device's list."""
        if self.direct_map is None:
            self.direct_map = start
            self.views = self._views_at(start, self._tables())
        same = {each.index: each for each in wanted if each.device == first.device}
        head = node = start + self._place(first, hit) + self._list
        try:
            for _ in range(VIRTIO_QUEUE_MAX + 2):
                queue = self.views.at(VringVirtqueue, node - self._list)
                self._note(queue, same)
                node = int(self.views.at(ListHead, node).next)
                if node == head:
                    return
        except VringcoreError as error:
            self._broken_list(first, str(error))
        else:
            self._broken_list(first, f"it does not end after {VIRTIO_QUEUE_MAX} queues")

    def _note(self, queue: VringVirtqueue, same: dict[int, Wanted]) -> None:
        """Note an entry of the list. One of them is the list's head, in the device itself."""
        try:
            each = same.get(queue.index)
            if each is not None and is_queue(queue, each):
                self.found.setdefault(each.key, queue)
        except MemoryFault:
            return

    def _broken_list(self, first: Wanted, why: str) -> None:
        what = f"the driver's list of queues of device {first.device} is not followed to its end"
        self.limits.append(Limitation(what, why))

    def _views_at(self, start: int, tables: _Tables | None) -> Views:
        space = KernelSpace(self._memory, start, self._end, tables)
        return Views(space, self._layouts, 0, ModuleSymbols())

    def _tables(self) -> _Tables | None:
        """Return a look-up by the page tables of a vCPU, None where none can be followed."""
        from vringcore.qemu.paging import virtual_space
        from vringcore.qemu.vcpus import vcpus

        why = "no vCPU was found"
        try:
            for cpu in vcpus(self._process)[0]:
                return virtual_space(self._memory, cpu).look_up
        except VringcoreError as error:
            why = str(error)
        self.limits.append(Limitation("the guest's page tables are not followed", why))
        return None

    def _offset(self, paths: tuple[str, ...]) -> int:
        layouts, c_type = self._layouts, VringVirtqueue.c_type
        record = layouts.resolve(layouts.definition(c_type))
        for path in paths:
            found = layouts.member(record, path) if isinstance(record, Record) else None
            if found is not None:
                return found[0]
        raise LayoutMissingError(
            f"{c_type} has no member {' or '.join(paths)}",
            expected="Linux 4.6 or newer; 5.0 or newer for packed rings",
        )


def is_queue(found: VringVirtqueue, wanted: Wanted) -> bool:
    """Tell whether what lies there can be the driver's side of a queue.

    :raises MemoryFault: if it cannot be read
    """
    size = found.packed_num if wanted.packed else found.split_num
    return (
        found.index == wanted.index
        and size == wanted.size
        and found.num_free <= wanted.size
        and found.is_packed in (None, wanted.packed)
        and min(found.vdev, found.name) >= UPPER_HALF
    )


def agrees(found: VringVirtqueue, wanted: Wanted) -> bool:
    """Tell whether a queue's indices go with the ring: one of an earlier boot may lie about, too.

    :raises MemoryFault: if it cannot be read
    """
    if wanted.used is not None:
        slot, wrap = last_used(found)
        apart = ring_math.packed_distance(
            wanted.used[0], slot, wanted.size, wrapped=wrap != wanted.used[1]
        )
        return 0 <= apart <= wanted.size
    if wanted.avail_idx is None or found.avail_idx_shadow is None:
        return True
    # The ring's index is written first, then what the driver remembers.
    return ring_math.distance(wanted.avail_idx, found.avail_idx_shadow) <= 1


def last_used(found: VringVirtqueue) -> tuple[int, bool]:
    """Return slot and wrap counter up to which the driver has read a packed ring."""
    if found.used_wrap_counter is not None:
        return found.last_used_idx, found.used_wrap_counter
    return found.last_used_idx & ((1 << WRAP_BIT) - 1), bool(found.last_used_idx >> WRAP_BIT)


def _zeroes(address: int) -> int:
    """Return how many bytes of a word in memory are zero before the first that is not."""
    return ((address & -address).bit_length() - 1) // 8


def _needle(address: int) -> bytes:
    """Return what to look for: no zero byte first, so that empty memory is passed over fast."""
    word = address.to_bytes(8, "little")[_zeroes(address) :]
    return word[: max(MIN_NEEDLE, len(word.rstrip(b"\0")))]


def _too_many(first: Wanted) -> Limitation:
    return Limitation(
        f"the driver's side of device {first.device} is not searched for to the end",
        f"{first.address:#x}, the address of its ring, is in more than {MAX_PLACES} places",
    )
