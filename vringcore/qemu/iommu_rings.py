"""Rings of devices behind an IOMMU, and where their buffers lie in the guest's memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from vringcore.addresses import IoVirtualAddress
from vringcore.errors import MemoryFault, VringcoreError
from vringcore.memory.gaps import GapKind
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.memory import dma_space
from vringcore.qemu.structs import VirtIODevice
from vringcore.qemu.virtqueues import BEHIND_IOMMU, RawQueue, RingPlace
from vringcore.virtio.constants import DESC_F_WRITE

if TYPE_CHECKING:
    from vringcore.model.requests import Descriptor, InFlight
    from vringcore.model.rings import Chain, PackedRing, SplitRing
    from vringcore.qemu.flat_space import DmaSpace
    from vringcore.view.views import Views

C = TypeVar("C", "Chain", "InFlight")
R = TypeVar("R", "SplitRing", "PackedRing")


def translated(views: Views, queues: list[RawQueue], device: int) -> list[RawQueue]:
    """Return the queues of a device, those behind an IOMMU with their rings found through it.

    :param device: address of the VirtIODevice
    """
    try:
        space = dma_space(views, views.at(VirtIODevice, device).dma_as)
    except VringcoreError as error:
        gone = absence_of(error)
        return [_placed(queue, RingPlace(gone, gone, gone)) for queue in queues]
    return [_placed(queue, _place(queue, space)) for queue in queues]


def _placed(queue: RawQueue, place: RingPlace) -> RawQueue:
    return replace(queue, place=place) if queue.place.state == "untranslatable" else queue


def _place(queue: RawQueue, space: DmaSpace) -> RingPlace:
    """Return a ring's place in the device's addresses.

    A ring of which some part begins where nothing is mapped is read as far as it goes.
    """
    view = queue.view
    desc, avail, used = map(IoVirtualAddress, (view.desc, view.avail, view.used))
    lost = [_unreached(space, address) for address in (desc, avail, used)]
    if lost[0] is not None and lost[1] is not None and lost[2] is not None:
        return RingPlace(lost[0], lost[1], lost[2])
    return RingPlace(desc, avail, used, space)


def _unreached(space: DmaSpace, address: IoVirtualAddress) -> Absent | None:
    """Return why an address of the device leads nowhere, None if it leads to memory."""
    try:
        space.host_address(address)
    except MemoryFault as fault:
        if fault.gap.kind is GapKind.UNTRANSLATABLE:
            return Absent(BEHIND_IOMMU, Address(address), fault.gap.hint)
        return absence_of(fault)
    except VringcoreError as error:
        return absence_of(error)
    return None


def with_host_addresses(ring: R, space: DmaSpace) -> R:
    """Return a ring with its parts' places in QEMU's memory, of each that of the first byte."""
    found: dict[str, Address | Absent] = {}
    for name in ring.__struct_fields__:
        if name.endswith("_address"):
            found[name] = attempt(
                partial(_host_address, space, IoVirtualAddress(int(getattr(ring, name))))
            )
    return replace(ring, **found)


def _host_address(space: DmaSpace, address: IoVirtualAddress) -> Address:
    return Address(space.host_address(address))


def located(each: C, space: DmaSpace) -> C:
    """Return a chain or a request with each descriptor's guest-physical address."""
    if not isinstance(each.descriptors, tuple):
        return each
    return replace(each, descriptors=tuple(_located(space, d) for d in each.descriptors))


def _located(space: DmaSpace, descriptor: Descriptor) -> Descriptor:
    address = IoVirtualAddress(int(descriptor.address))
    return replace(descriptor, guest_address=_guest_address(space, address, descriptor.flags))


def _guest_address(
    space: DmaSpace, address: IoVirtualAddress, flags: int
) -> Address | Absent | None:
    """Return what a buffer's first byte is to the guest; None where no IOMMU translates it.

    Absent where it is not mapped, and where the mapping forbids what the descriptor is for.
    """
    page = space.mapping(address)
    if page is None:
        return None
    if page.physical is None:
        assert page.gap is not None
        return Absent(page.gap.kind.value, Address(address), page.gap.hint)
    physical = Address(page.physical + address - page.start)
    writes = bool(flags & DESC_F_WRITE)
    if not (page.writable if writes else page.readable):
        reason = "not-writable" if writes else "not-readable"
        return Absent(reason, physical, "mapped, but the IOMMU does not let the device do that")
    return physical
