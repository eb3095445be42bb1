"""Packed rings that were used out of order, are damaged, or cannot be read."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from msgspec import UNSET

from tests.qemu.damaged import Hidden, Patched, core_over
from tests.qemu.support import CORES, open_lab
from vringcore.model.queues import Counts, EventSuppression, PackedGuest
from vringcore.model.rings import PackedRing
from vringcore.model.values import Absent
from vringcore.qemu.structs import VirtIODevice, VirtQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.api import Core
    from vringcore.model.queues import Queue
    from vringcore.model.requests import InFlight
    from vringcore.qemu.process import Process

PACKED_CORES = [core for core in CORES if core.case.scenario == "stuck-packed-direct"]

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not PACKED_CORES, reason="no cores: run `python -m tests.lab make 7.2 stuck-packed-direct`"
    ),
]

AVAIL, USED = 1 << 7, 1 << 15
AT_DESCRIPTOR = 2


@pytest.fixture(scope="module", params=PACKED_CORES, ids=lambda core: core.name)
def stuck(request: pytest.FixtureRequest) -> Iterator[Process]:
    """virtio-blk, two chains of several descriptors in flight in each of four queues."""
    process = open_lab(request.param)
    yield process
    process.close()


def queue_of(core: Core, index: int = 0) -> Queue:
    (device,) = core.virtio_devices()
    assert isinstance(device.queues, tuple)
    return device.queues[index]


def ring_of(core: Core, index: int = 0) -> PackedRing:
    ring = core.ring("0", index).packed
    assert isinstance(ring, PackedRing)
    return ring


def sound(process: Process) -> Core:
    return core_over(process, process.views.space)


def place(process: Process, member: str) -> int:
    """Return where a member of queue 0 lies."""
    address = int(queue_of(sound(process)).address)
    return address + process.views.offset(VirtQueue.c_type, member)


def by_age(queue: Queue) -> list[InFlight]:
    """Return the requests of a queue by the slots of their chains, from ``used_idx`` on."""
    assert isinstance(queue.in_flight, tuple)
    assert isinstance(queue.size, int)

    def distance(request: InFlight) -> int:
        assert isinstance(request.descriptors, tuple)
        return (request.descriptors[0].index - queue.used_idx) % queue.size

    return sorted(queue.in_flight, key=distance)


def completed_out_of_order(process: Process) -> dict[int, bytes]:
    """Return what the device would write were it to give back the younger of two chains."""
    queue = queue_of(sound(process))
    _, younger = by_age(queue)
    assert isinstance(queue.used_idx, int)
    assert isinstance(queue.size, int)
    assert isinstance(queue.in_use, int)
    bits = AVAIL | USED if queue.used_wrap_counter else 0
    slot = int(ring_of(sound(process)).descriptor_address) + 16 * queue.used_idx
    moved = queue.used_idx + younger.ndescs
    return {
        slot: struct.pack("<QIHH", 0, 1, younger.head, bits),
        place(process, "used_idx"): struct.pack("<H", moved % queue.size),
        place(process, "used_wrap_counter"): bytes(
            [bool(queue.used_wrap_counter) ^ (moved >= queue.size)]
        ),
        place(process, "inuse"): struct.pack("<I", queue.in_use - younger.ndescs),
    }


def test_a_request_whose_descriptors_were_overwritten_is_told(stuck: Process) -> None:
    older, younger = by_age(queue_of(sound(stuck)))
    core = core_over(stuck, Patched(stuck.views.space, completed_out_of_order(stuck)))
    queue = queue_of(core)
    assert isinstance(queue.in_flight, tuple)
    seen = {request.head: request for request in queue.in_flight}
    assert seen[older.head].chain_end == "overwritten"
    assert seen[older.head].descriptors is UNSET
    assert seen[older.head].request == older.request
    assert seen[younger.head].descriptors == younger.descriptors
    assert isinstance(queue.counts, Counts)
    assert queue.counts.popped == queue.counts.in_use == older.ndescs
    assert [chain.head for chain in core.ring("0", 0).chains] == [younger.head]


def test_slots_say_what_they_are_after_a_completion_out_of_order(stuck: Process) -> None:
    before = queue_of(sound(stuck))
    older, younger = by_age(before)
    core = core_over(stuck, Patched(stuck.views.space, completed_out_of_order(stuck)))
    slots = ring_of(core).descriptors
    assert isinstance(slots, tuple)
    assert isinstance(before.used_idx, int)
    used, *left = (slots[(before.used_idx + step) % len(slots)] for step in range(younger.ndescs))
    assert (used.state, used.id) == ("used", younger.head)
    assert {slot.state for slot in left} == {"left-over"}
    assert sum(slot.state == "taken" for slot in slots) == older.ndescs


def test_positions_behind_the_ring_are_damage(stuck: Process) -> None:
    patch = {place(stuck, "last_avail_idx"): struct.pack("<H", queue_of(sound(stuck)).size)}
    core = core_over(stuck, Patched(stuck.views.space, patch))
    queue = queue_of(core)
    assert isinstance(queue.counts, Counts)
    for count in (queue.counts.popped, queue.counts.unseen, queue.counts.leaked):
        assert isinstance(count, Absent)
        assert count.reason == "corrupt"
    assert isinstance(queue.in_flight, tuple)
    assert all(request.chain_end == "" for request in queue.in_flight)
    document = core.ring("0", 0)
    assert document.chains == ()
    assert isinstance(document.packed, PackedRing)
    assert isinstance(document.packed.descriptors, tuple)
    assert {slot.state for slot in document.packed.descriptors} == {""}


def test_positions_that_cannot_both_be_true_are_damage(stuck: Process) -> None:
    queue = queue_of(sound(stuck))
    patch = {place(stuck, "used_wrap_counter"): bytes([not queue.used_wrap_counter])}
    counts = queue_of(core_over(stuck, Patched(stuck.views.space, patch))).counts
    assert isinstance(counts, Counts)
    assert isinstance(counts.popped, Absent)
    assert "positions of a packed ring" in counts.popped.hint
    assert counts.unseen == 0


def test_a_ring_that_is_not_there_hides_only_what_lies_in_it(stuck: Process) -> None:
    start = int(ring_of(sound(stuck)).descriptor_address)
    core = core_over(stuck, Hidden(stuck.views.space, [(start, start + 16)]))
    queue = queue_of(core)
    assert isinstance(queue.counts, Counts)
    assert isinstance(queue.counts.unseen, Absent)
    assert queue.counts.popped == queue.in_use
    assert isinstance(queue.in_flight, tuple)
    assert len(queue.in_flight) == 2
    assert all(request.chain_end == "" for request in queue.in_flight)
    ring = ring_of(core)
    assert isinstance(ring.descriptors, Absent)
    assert ring.guest == ring_of(sound(stuck)).guest


def test_an_event_structure_that_is_not_there_does_not_hide_the_other(stuck: Process) -> None:
    start = int(ring_of(sound(stuck)).driver_event_address)
    guest = queue_of(core_over(stuck, Hidden(stuck.views.space, [(start, start + 4)]))).guest
    assert isinstance(guest, PackedGuest)
    assert isinstance(guest.driver_event, Absent)
    assert isinstance(guest.device_event, EventSuppression)


@pytest.mark.parametrize("behind", [0, 1, 5, 63, -1, -9])
def test_past_used_event_counts_descriptors_behind_the_wished_one(
    stuck: Process, behind: int
) -> None:
    queue = queue_of(sound(stuck))
    assert isinstance(queue.used_idx, int)
    assert isinstance(queue.size, int)
    slot, wrap = queue.used_idx - behind, bool(queue.used_wrap_counter)
    if not 0 <= slot < queue.size:
        slot, wrap = slot % queue.size, not wrap
    address = int(ring_of(sound(stuck)).driver_event_address)
    patch = {address: struct.pack("<HH", slot | wrap << 15, AT_DESCRIPTOR)}
    counts = queue_of(core_over(stuck, Patched(stuck.views.space, patch))).counts
    assert isinstance(counts, Counts)
    assert counts.past_used_event == max(behind, 0)


def test_an_event_behind_the_ring_is_damage(stuck: Process) -> None:
    address = int(ring_of(sound(stuck)).driver_event_address)
    patch = {address: struct.pack("<HH", queue_of(sound(stuck)).size, AT_DESCRIPTOR)}
    counts = queue_of(core_over(stuck, Patched(stuck.views.space, patch))).counts
    assert isinstance(counts, Counts)
    assert isinstance(counts.past_used_event, Absent)


def test_of_a_ring_of_unknown_kind_both_are_absent(stuck: Process) -> None:
    (device,) = sound(stuck).virtio_devices()
    start = int(device.address) + stuck.views.offset(VirtIODevice.c_type, "guest_features")
    document = core_over(stuck, Hidden(stuck.views.space, [(start, start + 8)])).ring("0", 0)
    assert isinstance(document.split, Absent)
    assert isinstance(document.packed, Absent)
    assert sound(stuck).ring("0", 0).split is UNSET
