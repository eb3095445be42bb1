"""What the guest's own virtio driver has seen: its ``vring_virtqueue``, read from guest memory.

The driver's structure is found by the ring it leads to. Linux maps all physical memory at one
virtual address, which is a multiple of 1 GiB on every machine with a kernel of 4 KiB pages, so the
lower 30 bits of a ring's virtual address are those of its physical one; and three pointers that are
as far apart as the three parts of the ring follow each other in ``struct vring``. All that is
needed beside are the types of that kernel.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore import ring_math
from vringcore.addresses import GuestAddress, HostAddress
from vringcore.debuginfo.btf import Btf, excerpt, read_btf
from vringcore.errors import (
    CorruptDataError,
    LayoutMissingError,
    MemoryFault,
    VringcoreError,
)
from vringcore.layout.provider import Layouts
from vringcore.layout.types import Enum, Record
from vringcore.memory.gaps import Gap, GapKind
from vringcore.model.driver import DriverQueue, DriverRequest
from vringcore.model.report import Limitation
from vringcore.model.rings import PackedRing, SplitRing
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.driver_structs import (
    ENUMS,
    VIEWS,
    VRING_DESC,
    DescState,
    DescStatePacked,
    DescStateSplit,
    Request,
    VirtioScsiCmd,
    VringVirtqueue,
)
from vringcore.qemu.guestmap import GuestMap
from vringcore.qemu.guestsearch import Scan
from vringcore.qemu.paged_space import PAGE_BITS, Mapping, PagedSpace
from vringcore.qemu.symbols import ModuleSymbols
from vringcore.view.views import Views
from vringcore.virtio.constants import ID_BLOCK, ID_SCSI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vringcore.model.queues import Queue
    from vringcore.qemu.flat_space import GuestSpace
    from vringcore.qemu.process import Process
    from vringcore.qemu.survey import Survey

    Progress = Callable[[int, int], None]
    _Tables = Callable[[int], Mapping]

DIRECT_MAP_ALIGNMENT = 1 << 30
KNOWN_BYTES = 3
"""Whole bytes of a pointer that are the same in the physical address."""

UPPER_HALF = 1 << 63
MAX_NAME = 64
REQ_OP_MASK = 0xFF
"""include/linux/blk_types.h: the bits of ``cmd_flags`` that are the operation."""


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


class _Ring(msgspec.Struct, frozen=True):
    """Guest-physical addresses of a ring's three parts, and its number of entries."""

    desc: int
    avail: int
    used: int
    num: int


class GuestDriver:
    """The guest's virtio drivers.

    :param layouts: types of the guest's kernel and of its modules
    :ivar direct_map: guest-virtual address of physical address 0, None before a queue was found
    :ivar limits: what could not be had
    """

    def __init__(
        self,
        process: Process,
        survey: Survey,
        layouts: Layouts,
        progress: Progress | None = None,
    ) -> None:
        self._process, self._survey, self._layouts = process, survey, layouts
        self._progress = progress
        self._memory = process.guest_memory
        self._regions = [r for r in GuestMap(process).regions() if isinstance(r.host, Address)]
        self._views: Views | None = None
        self.direct_map: int | None = None
        self.limits: list[Limitation] = []
        layouts.definition(VringVirtqueue.c_type)  # without it nothing can be said

    def queues(self, only_device: int | None, only_queue: int | None) -> Iterator[DriverQueue]:
        """Yield the driver's side of every queue that has a ring, as far as it is found."""
        for model in self._survey.models(frozenset({"queues"}), self.limits, only=only_device):
            for queue in model.queues or ():
                if only_queue in (None, queue.index) and queue.ring_state == "ready":
                    name = f"queue {queue.index} of device {model.index} ({model.kind})"
                    try:
                        found = self._queue(model.index, model.id, queue.index)
                    except VringcoreError as error:
                        self.limits.append(Limitation(f"the driver's side of {name}", str(error)))
                    else:
                        yield found

    def _queue(self, device: int, device_id: str | Absent | None, index: int) -> DriverQueue:
        queue, ring, _chains = self._survey.ring(device, index, self.limits)
        if not isinstance(ring, SplitRing | PackedRing):
            raise CorruptDataError("the ring cannot be read", seen=ring.describe())
        place = self._physical(ring, queue)
        found = self._find(place, index, packed=isinstance(ring, PackedRing))
        split = ring if isinstance(ring, SplitRing) else None
        used = None if split is None else split.guest.used_idx
        shadow = found.avail_idx_shadow if split is not None else None
        last_used = found.last_used_idx
        return DriverQueue(
            device=device,
            device_id=device_id,
            queue=index,
            address=Address(found.address_),
            name=attempt(lambda: self._typed.string(found.name, MAX_NAME)),
            last_used_idx=last_used,
            used_idx=used,
            avail_idx=shadow,
            last_avail_idx=queue.last_avail_idx,
            qemu_used_idx=queue.used_idx,
            unread=_distance(used, last_used),
            unseen=_distance(shadow, queue.last_avail_idx),
            num_free=found.num_free,
            broken=found.broken,
            event_triggered=found.event_triggered,
            requests=attempt(lambda: tuple(self._requests(device, queue, split, found))),
        )

    @property
    def _typed(self) -> Views:
        assert self._views is not None
        return self._views

    def _physical(self, ring: SplitRing | PackedRing, queue: Queue) -> _Ring:
        parts = (
            (ring.descriptor_address, ring.avail_address, ring.used_address)
            if isinstance(ring, SplitRing)
            else (ring.descriptor_address, ring.driver_event_address, ring.device_event_address)
        )
        size = queue.size
        if isinstance(size, Absent):
            raise CorruptDataError("the size of the ring is not known", seen=size.describe())
        desc, avail, used = map(self._guest_address, parts)
        return _Ring(desc, avail, used, size)

    def _guest_address(self, host: int | Absent) -> int:
        if isinstance(host, Absent):
            raise CorruptDataError("a part of the ring lies nowhere", seen=host.describe())
        for region in self._regions:
            assert isinstance(region.host, Address)
            if region.host <= host < region.host + region.size:
                return int(region.start) + int(host) - int(region.host)
        raise CorruptDataError("the ring does not lie in guest RAM", seen=f"{host:#x}")

    def _find(self, ring: _Ring, index: int, *, packed: bool) -> VringVirtqueue:
        """Return the driver's structure of a ring.

        :raises CorruptDataError: if it is nowhere in guest memory
        """
        offset = self._offset_of_pointers(packed=packed)
        for place, pointer in self._candidates(ring):
            start = pointer - ring.desc
            views = self._views if start == self.direct_map else self._make_views(start)
            assert views is not None
            found = views.at(VringVirtqueue, start + place - offset)
            if attempt(lambda f=found: self._is(f, index, ring.num, packed)) is True:  # type: ignore[misc]
                self._views, self.direct_map = views, start
                return found
        raise CorruptDataError(
            "the driver's structure was not found",
            seen=f"no three pointers to the ring at guest-physical {ring.desc:#x}",
            expected="a struct vring in guest memory",
            hint="the guest may run another system than Linux, or its memory is not in the core",
        )

    def _is(self, found: VringVirtqueue, index: int, size: int, packed: bool) -> bool:
        return found.index == index and (found.packed_num if packed else found.split_num) == size

    def _candidates(self, ring: _Ring) -> Iterator[tuple[int, int]]:
        """Yield where pointers to the three parts follow each other, and the first of them."""
        if self.direct_map is None:
            needle = ring.desc.to_bytes(8, "little")[:KNOWN_BYTES]
        else:
            needle = (self.direct_map + ring.desc).to_bytes(8, "little")
        words = Struct("<3Q")
        for place in Scan(self._process, self._progress).find(needle):
            if place % 8:
                continue
            try:
                desc, avail, used = words.unpack(self._memory.read(GuestAddress(place), words.size))
            except MemoryFault:
                continue
            apart = (ring.avail - ring.desc, ring.used - ring.desc)
            aligned = (desc - ring.desc) % DIRECT_MAP_ALIGNMENT == 0
            if aligned and desc >= UPPER_HALF and (avail - desc, used - desc) == apart:
                yield place, desc

    def _make_views(self, start: int) -> Views:
        size = max((each.address + each.size for each in self._memory.ranges()), default=0)
        space = KernelSpace(self._memory, start, size, self._tables())
        return Views(space, self._layouts, 0, ModuleSymbols())

    def _tables(self) -> _Tables | None:
        """Return a look-up by the page tables of a vCPU, None where none can be followed."""
        from vringcore.qemu.paging import virtual_space
        from vringcore.qemu.vcpus import vcpus

        try:
            for cpu in vcpus(self._process)[0]:
                return virtual_space(self._memory, cpu).look_up
        except VringcoreError as error:
            self.limits.append(Limitation("the guest's page tables are not followed", str(error)))
        return None

    def _offset_of_pointers(self, *, packed: bool) -> int:
        """Return where in the driver's structure the first pointer to the ring lies."""
        layouts, c_type = self._layouts, VringVirtqueue.c_type
        record = layouts.resolve(layouts.definition(c_type))
        for path in VRING_DESC[packed]:
            found = layouts.member(record, path) if isinstance(record, Record) else None
            if found is not None:
                return found[0]
        raise LayoutMissingError(f"{c_type} has no {' and no '.join(VRING_DESC[packed])}")

    # What the driver waits for

    def _requests(
        self, device: int, queue: Queue, ring: SplitRing | None, found: VringVirtqueue
    ) -> Iterator[DriverRequest]:
        raw = self._survey.devices.raw[device]
        places = self._places(queue, ring, found)
        state = self._state_type(packed=ring is None)
        start = found.desc_state if ring is not None else found.packed_desc_state
        assert start is not None
        assert not isinstance(queue.size, Absent)
        step = self._typed.binding(state).type.size
        for head in range(queue.size):
            token = self._typed.at(state, start + head * step).data
            if token:
                yield self._request(raw.device_id, head, int(token), places(head))

    def _state_type(self, *, packed: bool) -> type[DescStateSplit | DescStatePacked | DescState]:
        if packed:
            return DescStatePacked
        known = self._layouts.find_definition(DescStateSplit.c_type)
        return DescState if known is None else DescStateSplit

    def _places(
        self, queue: Queue, ring: SplitRing | None, found: VringVirtqueue
    ) -> Callable[[int], str]:
        """Return what tells where a head is that the driver waits for."""
        in_flight = {r.head for r in queue.in_flight or ()}
        unseen: set[int] = set()
        completed: set[int] = set()
        if ring is not None:
            published = _window(queue.last_avail_idx, found.avail_idx_shadow, queue.size)
            if not isinstance(ring.available, Absent):
                heads = {entry.slot: entry.head for entry in ring.available}
                unseen = {heads[slot] for slot in published if slot in heads}
            given_back = _window(found.last_used_idx, ring.guest.used_idx, queue.size)
            if not isinstance(ring.used, Absent):
                ids = {entry.slot: entry.id for entry in ring.used}
                completed = {ids[slot] for slot in given_back if slot in ids}
        # Of devices whose elements are not all looked for, what is in use may be any of the rest.
        counted = queue.counts.unidentified if queue.counts else None
        certain = ring is not None and counted == 0

        def place(head: int) -> str:
            if head in in_flight:
                return "in-qemu"
            if head in completed:
                return "completed"
            if head in unseen:
                return "unseen"
            return "nowhere" if certain else "not-known"

        return place

    def _request(self, device_id: int, head: int, token: int, place: str) -> DriverRequest:
        plain = DriverRequest(head, Address(token), place)
        size = attempt(lambda: self._typed.binding(Request).type.size)
        if isinstance(size, Absent) or device_id not in (ID_BLOCK, ID_SCSI):
            return plain
        if device_id == ID_SCSI:
            command = attempt(lambda: int(self._typed.at(VirtioScsiCmd, token).sc))
            if isinstance(command, Absent) or not command:
                return plain
            token = command
        # blk_mq_rq_from_pdu(): what a driver adds to a request lies behind it.
        request = self._typed.at(Request, token - size)
        return msgspec.structs.replace(
            plain,
            tag=attempt(lambda: request.tag),
            operation=attempt(lambda: self._operation(request.cmd_flags)),
            state=attempt(lambda: self._named(ENUMS[:1], request.state, "MQ_RQ_")),
            sector=attempt(lambda: request.sector),
            length=attempt(lambda: request.data_len),
            started_ns=attempt(lambda: request.start_time_ns),
        )

    def _operation(self, flags: int) -> str:
        return self._named(ENUMS[1:], flags & REQ_OP_MASK, "REQ_OP_") or str(flags & REQ_OP_MASK)

    def _named(self, enums: Sequence[str], value: int | None, prefix: str) -> str | None:
        for key in enums:
            found = self._layouts.find_definition(key)
            if isinstance(found, Enum):
                for name, number in found.enumerators.items():
                    if number == value and name.startswith(prefix):
                        return name.removeprefix(prefix).lower().replace("_", "-")
        return None if value is None else str(value)


def _window(start: int | Absent | None, end: int | Absent | None, size: int | Absent) -> set[int]:
    """Return the slots from one free-running index up to another, none if they make no sense."""
    if not isinstance(start, int) or not isinstance(end, int) or not isinstance(size, int):
        return set()
    count = ring_math.distance(end, start)
    if count > size:
        return set()
    return {ring_math.slot(ring_math.advance(start, step), size) for step in range(count)}


def _distance(newer: int | Absent | None, older: int | Absent) -> int | Absent | None:
    if newer is None or isinstance(newer, Absent):
        return newer
    return older if isinstance(older, Absent) else ring_math.distance(newer, older)


def guest_types(paths: Sequence[str]) -> Layouts:
    """Return the types of a guest's kernel that its virtio drivers are read by.

    :param paths: of vmlinux and modules, or of raw BTF as in /sys/kernel/btf; the largest is the
        kernel's, which those of modules continue
    :raises FileError: if one cannot be read
    :raises LayoutError: if one has no BTF, or damaged BTF
    """
    read = sorted((read_btf(path) for path in paths), key=lambda each: -len(each.data))
    blobs: list[Btf] = []
    for each in read:
        base = blobs[0] if blobs else None
        blobs.append(Btf(each.data, each.path, base, each.pointer_size))
    keys = [view.c_type for view in VIEWS]
    return Layouts(excerpt(blobs, [*keys, *ENUMS]))
