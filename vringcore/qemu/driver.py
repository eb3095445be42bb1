"""What the guest's own virtio driver has seen: its ``vring_virtqueue``, read from guest memory.

All that is needed beside a core with the guest's memory are the types of that kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore import ring_math
from vringcore.debuginfo.btf import Btf, excerpt, read_btf
from vringcore.errors import CorruptDataError, LayoutError, VringcoreError
from vringcore.layout.provider import Layouts
from vringcore.layout.types import Record
from vringcore.model.driver import DriverQueue
from vringcore.model.queues import SplitGuest
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.driver_requests import Side, packed_distance, requests_of
from vringcore.qemu.driver_search import DriverSearch, Wanted, last_used
from vringcore.qemu.driver_structs import ENUMS, VIEWS, ListHead, VringVirtqueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.qemu.process import Process
    from vringcore.qemu.survey import Survey

MAX_NAME = 64
MAX_SIZE = 1 << 15
"""VirtIO 1.3, 2.7: of a queue."""

UNKNOWN = Absent("unknown", None, "the two sides' indices do not go together")
NOT_SET_UP = "not-set-up"
NO_INTERRUPT = 1
"""VIRTQ_AVAIL_F_NO_INTERRUPT (VirtIO 1.3, 2.7.7), and RING_EVENT_FLAGS_DISABLE (2.8.10)."""

LIST_HEAD_SIZE = 16
"""Two pointers."""

STALE = Absent(
    "run-by-vhost", None, "a back-end runs the ring; QEMU's copy is of the last time that it did"
)


class GuestDriver:
    """The guest's virtio drivers.

    :param layouts: types of the guest's kernel and of its modules
    :ivar limits: what could not be had
    :raises LayoutError: if they lack those of virtio, or are of a kernel that is not 64-bit
        little-endian
    """

    def __init__(
        self,
        process: Process,
        survey: Survey,
        layouts: Layouts,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        check_kind(layouts)
        self._process, self._survey = process, survey
        self._search = DriverSearch(process, layouts, progress)
        self.limits: list[Limitation] = []

    @property
    def direct_map(self) -> int | None:
        """Guest-virtual address of physical address 0, None before a queue was found."""
        return self._search.direct_map

    def queues(self, only_device: int | None, only_queue: int | None) -> Iterator[DriverQueue]:
        """Yield the driver's side of every queue that it has set up, as far as it is found."""
        asked = list(self._wanted(only_device, only_queue))
        self._search.run([wanted for _, wanted in asked])
        self.limits += self._search.limits
        for model, wanted in asked:
            try:
                yield self._queue(model, wanted)
            except VringcoreError as error:
                self._note(model, wanted.index, error)

    def _wanted(
        self, only_device: int | None, only_queue: int | None
    ) -> Iterator[tuple[Device, Wanted]]:
        for model in self._survey.models(frozenset({"queues"}), self.limits, only=only_device):
            for queue in model.queues or ():
                if only_queue in (None, queue.index) and queue.ring_state != NOT_SET_UP:
                    try:
                        yield model, self._looked_for(model, queue)
                    except VringcoreError as error:
                        self._note(model, queue.index, error)

    def _looked_for(self, model: Device, queue: Queue) -> Wanted:
        raw = next(
            q for q in self._survey.devices.raw[model.index].queues if q.index == queue.index
        )
        size = raw.view.num
        if not 0 < size <= MAX_SIZE:
            raise CorruptDataError("no queue has that size", seen=f"{size}", expected="to 32768")
        guest, packed = queue.guest, queue.ring == "packed"
        avail = guest.avail_idx if isinstance(guest, SplitGuest) else None
        used = queue.used_idx, queue.used_wrap_counter
        known = isinstance(used[0], int) and isinstance(used[1], bool) and not queue.stale
        return Wanted(
            device=model.index,
            index=queue.index,
            size=size,
            address=raw.view.desc,
            packed=packed,
            avail_idx=avail if isinstance(avail, int) else None,
            used=used if packed and known else None,  # type: ignore[arg-type]
        )

    def _note(self, model: Device, index: int, error: VringcoreError) -> None:
        what = f"the driver's side of queue {index} of device {model.index} ({model.kind})"
        self.limits.append(Limitation(what, str(error)))

    def _queue(self, model: Device, wanted: Wanted) -> DriverQueue:
        found = self._search.found.get(wanted.key)
        if found is None:
            raise self._not_found(wanted)
        queue, ring, _chains = self._survey.ring(model.index, wanted.index, self.limits)
        raw = self._survey.devices.raw[model.index]
        side = Side(raw.device_id, queue, wanted.size, ring, found, wanted.packed)
        indices = _packed_indices(side) if wanted.packed else _split_indices(side)
        stale = "last_avail_idx" in queue.stale
        views = self._search.views
        return DriverQueue(
            device=model.index,
            device_id=model.id,
            queue=wanted.index,
            address=Address(found.address_),
            name=attempt(lambda: views.string(found.name, MAX_NAME)),
            last_used_idx=indices.last_used_idx,
            last_used_wrap_counter=indices.last_used_wrap_counter,
            used_event=indices.used_event,
            interrupts=indices.interrupts,
            event_triggered=found.event_triggered,
            used_idx=indices.used_idx,
            avail_idx=indices.avail_idx,
            avail_wrap_counter=indices.avail_wrap_counter,
            last_avail_idx=STALE if stale else queue.last_avail_idx,
            qemu_used_idx=STALE if stale else queue.used_idx,
            unread=indices.unread,
            unseen=STALE if stale else indices.unseen,
            num_free=found.num_free,
            broken=found.broken,
            requests=attempt(lambda: tuple(requests_of(views, side))),
        )

    def _not_found(self, wanted: Wanted) -> CorruptDataError:
        search = self._search
        if search.missing and not search.searched:
            return CorruptDataError(
                "the driver's structures are not in the core",
                seen=f"no guest memory: {search.missing} bytes are left out",
                hint="take the core with the guest's memory (dump-guest-core=on); a small core has"
                " the rings at most: ask the whole one",
            )
        if search.missing:
            return CorruptDataError(
                "the driver's structure was not found",
                seen=f"{search.searched} bytes of guest memory searched, and"
                f" {search.missing} are not in the core",
                hint="a small core holds the rings and no other guest memory: ask the whole one",
            )
        return CorruptDataError(
            "the driver's structure was not found",
            seen=f"nowhere in {search.searched} bytes of guest memory a struct vring_virtqueue of"
            f" index {wanted.index}, size {wanted.size} and the ring at {wanted.address:#x}",
            hint="are the types given those of this guest's kernel? Or it is no Linux,"
            " is older than 4.6, or the firmware has set up the queue",
        )


def check_kind(layouts: Layouts) -> None:
    """Check that types are of a kernel that can be read.

    :raises LayoutError: if they lack virtio's, or are not of a 64-bit little-endian kernel
    """
    entry = layouts.resolve(layouts.definition(ListHead.c_type))
    size = entry.size if isinstance(entry, Record) else 0
    if layouts.big_endian or size != LIST_HEAD_SIZE:
        order = "big" if layouts.big_endian else "little"
        raise LayoutError(
            "guests of this kind are not read",
            seen=f"types of a {size * 4}-bit {order}-endian kernel",
            expected="a 64-bit little-endian Linux",
        )
    if layouts.find_definition(VringVirtqueue.c_type) is None:
        raise LayoutError(
            "the types given are not those of the guest's virtio driver",
            seen=f"no {VringVirtqueue.c_type}",
            expected="vmlinux and, where virtio is a module, virtio_ring.ko",
            hint="--guest-types vmlinux --guest-types virtio_ring.ko",
        )


class _Indices(msgspec.Struct, frozen=True):
    """What :class:`DriverQueue` says of the two sides' indices."""

    last_used_idx: int
    last_used_wrap_counter: bool | None
    avail_idx: int | None
    avail_wrap_counter: bool | None
    used_idx: int | Absent | None
    used_event: int | Absent | None
    unread: int | Absent
    unseen: int | Absent
    interrupts: bool | None


def _split_indices(side: Side) -> _Indices:
    driver, queue = side.driver, side.queue
    used, event = _device_words(queue)
    flags = driver.avail_flags_shadow
    return _Indices(
        last_used_idx=driver.last_used_idx,
        last_used_wrap_counter=None,
        avail_idx=driver.avail_idx_shadow,
        avail_wrap_counter=None,
        used_idx=used,
        used_event=event,
        unread=_distance(used, driver.last_used_idx, side.size),
        unseen=_distance(driver.avail_idx_shadow, queue.last_avail_idx, side.size),
        interrupts=None if flags is None else not flags & NO_INTERRUPT,
    )


def _device_words(queue: Queue) -> tuple[int | Absent, int | Absent | None]:
    """Return ``used.idx`` and ``used_event`` of guest memory."""
    guest = queue.guest
    if isinstance(guest, SplitGuest):
        return guest.used_idx, guest.used_event
    why = guest if isinstance(guest, Absent) else UNKNOWN
    return why, why


def _packed_indices(side: Side) -> _Indices:
    driver, queue, size = side.driver, side.queue, side.size
    read = last_used(driver)
    published = driver.next_avail_idx, driver.avail_wrap_counter
    given = queue.used_idx, queue.used_wrap_counter
    taken = queue.last_avail_idx, queue.last_avail_wrap_counter
    unread = STALE if queue.stale else packed_distance(given, read, size)
    unseen = packed_distance(published, taken, size)
    flags = driver.event_flags_shadow
    return _Indices(
        last_used_idx=read[0],
        last_used_wrap_counter=read[1],
        avail_idx=published[0],
        avail_wrap_counter=published[1],
        used_idx=None,
        used_event=None,
        unread=UNKNOWN if unread is None else unread,
        unseen=UNKNOWN if unseen is None else unseen,
        interrupts=None if flags is None else flags != NO_INTERRUPT,
    )


def _distance(newer: int | Absent | None, older: int | Absent, size: int) -> int | Absent:
    if newer is None or isinstance(newer, Absent):
        return UNKNOWN if newer is None else newer
    if isinstance(older, Absent):
        return older
    count = ring_math.distance(newer, older)
    return count if count <= size else UNKNOWN


def guest_types(paths: Sequence[str]) -> Layouts:
    """Return the types of a guest's kernel that its virtio drivers are read by.

    :param paths: of vmlinux and modules, or of raw BTF as in /sys/kernel/btf; the largest is the
        kernel's, which those of modules continue
    :raises FileError: if one cannot be read
    :raises LayoutError: if one has no BTF, or damaged BTF, or that of another kernel's modules
    """
    read = sorted((read_btf(path) for path in paths), key=lambda each: -len(each.data))
    blobs: list[Btf] = []
    for each in read:
        base = blobs[0] if blobs else None
        blobs.append(Btf(each.data, each.path, base, each.pointer_size))
    keys = [view.c_type for view in VIEWS]
    return Layouts(excerpt(blobs, [*keys, *ENUMS]))
