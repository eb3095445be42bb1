"""Search of QEMU's memory for elements that no structure known here leads to: the last resort.

An element lies in one block with four arrays (virtqueue_alloc_element() in hw/virtio/virtio.c), of
which the first two are the addresses of the chain's buffers, writable ones first. The ring says
which chains may be in flight, so the search is for the bytes of those arrays: what is found was
taken from that very chain. Freed blocks lose their counts to malloc's own pointers.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Literal

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu import heapscan
from vringcore.qemu.device_structs import VirtQueueElement
from vringcore.qemu.ramblocks import ram_blocks
from vringcore.qemu.requests_held import Held
from vringcore.qemu.virtqueues import split_ring
from vringcore.view.lists import collect
from vringcore.virtio.chain import walk_chain
from vringcore.virtio.split import available_window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vringcore.memory.space import AddressSpace, Range
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.view.views import Views

MAX_CHAINS = 256
"""Chains that are searched for; each takes a pass over the memory."""

MAX_BEFORE = 4096
"""How far before its arrays an element may begin: the largest request of any device."""


def search(
    views: Views,
    device: RawDevice,
    memory: AddressSpace[Any],
    missing: Mapping[int, int],
    known: set[tuple[int, int]],
    *,
    deep: bool,
) -> tuple[list[Held], list[Limitation]]:
    """Return elements that were found, and what the search was.

    :param memory: the guest's memory as the device sees it
    :param missing: by queue index, how many elements in use are not identified
    :param known: queue index and head of those that are
    """
    wanted = list(_wanted(views, device, memory, missing, known))[:MAX_CHAINS]
    total = sum(count for count in missing.values() if count > 0)
    what = f"{total} in use of {device.type_name} are in no list of QEMU's"
    if not wanted:
        return [], [Limitation(what, "the rings do not tell which chains they are")]
    budget = heapscan.DEEP_BUDGET if deep else heapscan.BUDGET
    held: dict[tuple[int, int], Held] = {}
    read = left = 0
    for part in _parts(views):
        if read + part.readable > budget:
            left += part.readable
            continue
        read += part.readable
        for queue, head, needle in wanted:
            if (queue.index, head) not in held:
                element = _element_in(views, part, needle, head)
                if element is not None:
                    key = queue.index, head
                    held[key] = Held(element, int(queue.view.address_), element, "VirtQueueElement")
    if len(held) == total:
        return list(held.values()), [Limitation(what, "a search of its memory found them all")]
    why = f"searched {read >> 20} MiB of QEMU's memory for them: {len(held)} identified"
    why += f"; {left >> 20} MiB were beyond the limit" if left else ""
    return list(held.values()), [Limitation(what, why)]


def _wanted(
    views: Views,
    device: RawDevice,
    memory: AddressSpace[Any],
    missing: Mapping[int, int],
    known: set[tuple[int, int]],
) -> Iterator[tuple[RawQueue, int, bytes]]:
    """Yield the chains that may be in flight, with the addresses that their elements hold."""
    rules = device.ring_rules
    if isinstance(rules, Absent) or rules.packed:
        return
    for queue in device.queues:
        if missing.get(queue.index, 0) <= 0 or queue.place.missing is not None:
            continue
        try:
            ring = split_ring(views, queue, rules)
            window = available_window(
                ring.available(), queue.view.used_idx, queue.view.last_avail_idx
            )
        except VringcoreError:
            continue  # the queue's own numbers, which are why, are shown with it
        for entry in window:
            if (queue.index, entry.head) in known:
                continue
            chain = walk_chain(ring.table, entry.head, memory)
            places = [
                each.address for side in (True, False) for each in chain.buffers(writable=side)
            ]
            if places:
                order = ">" if views.layouts.big_endian else "<"
                yield queue, entry.head, struct.pack(f"{order}{len(places)}Q", *places)


def _parts(views: Views) -> list[Range]:
    guest, _ = collect((int(block.host), int(block.max_length)) for block in ram_blocks(views))
    parts = heapscan.private_ranges(views.space.ranges(), guest)
    return sorted(parts, key=lambda part: part.readable)


def _element_in(views: Views, part: Range, needle: bytes, head: int) -> int | None:
    for piece in views.space.scan(HostAddress(part.address), part.readable):
        data = piece.data or b""
        at = data.find(needle)
        while at >= 0:
            place = piece.address + at
            if not place % 8:
                found = _element_before(views, data, piece.address, place, head)
                if found is not None:
                    # Read as a whole, so that a small core has what it is found by.
                    views.space.read(HostAddress(found), place + len(needle) - found)
                    return found
            at = data.find(needle, at + 1)
    return None


def _element_before(views: Views, data: bytes, start: int, arrays: int, head: int) -> int | None:
    """Return the element whose arrays begin at ``arrays``, if there is one for this head."""
    word = views.pointer_size
    order: Literal["big", "little"] = "big" if views.layouts.big_endian else "little"
    member = views.offset(VirtQueueElement.c_type, "in_addr", VirtQueueElement.unit)
    pointer = arrays.to_bytes(word, order)
    end = arrays - start
    at = data.rfind(pointer, max(end - MAX_BEFORE, 0), end)
    while at >= 0:
        address = start + at - member
        if _fits(views, address, arrays, head):
            return address
        at = data.rfind(pointer, max(end - MAX_BEFORE, 0), at + word - 1)
    return None


def _fits(views: Views, address: int, arrays: int, head: int) -> bool:
    try:
        element = views.at(VirtQueueElement, address)
        return (
            element.index == head
            and element.out_addr == arrays + 8 * element.in_num
            and element.in_sg == element.out_addr + 8 * element.out_num
            and element.out_sg == element.in_sg + 2 * views.pointer_size * element.in_num
        )
    except VringcoreError:
        return False
