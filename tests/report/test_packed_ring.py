"""Packed rings and queues in order as text."""

from __future__ import annotations

import re

from msgspec import UNSET, structs

from tests.report import samples
from tests.report.test_text import text
from vringcore.model.queues import Counts, EventSuppression, Ordered, PackedGuest
from vringcore.model.report import RingDocument
from vringcore.model.requests import Descriptor
from vringcore.model.rings import Chain, PackedRing, PackedSlot
from vringcore.model.values import Address
from vringcore.report.queues import print_queues
from vringcore.report.requests import print_requests
from vringcore.report.ring import print_ring

DRIVER = EventSuppression(0x8002, 2, True, 2, "desc")
DEVICE = EventSuppression(0, 0, False, 1, "disable")
GUEST = PackedGuest(DRIVER, DEVICE)
TABLE = Address(0x9000)

SLOTS = tuple(
    PackedSlot(slot, Address(0x1000 * slot), 16, slot, 128, ("avail",), "used")
    for slot in range(32)
)
TAKEN = {
    2: PackedSlot(2, TABLE, 16, 7, 132, ("indirect", "avail"), "taken", ("used_idx",)),
    3: PackedSlot(3, Address(0x3000), 16, 4, 128, ("avail",), "available", ("last_avail_idx",)),
    20: PackedSlot(20, Address(0x2000), 16, 4, 128, ("avail",), "available"),
}
QUEUE = structs.replace(
    samples.packed_queue(1),
    last_avail_idx=3,
    used_idx=2,
    used_wrap_counter=False,
    guest=GUEST,
    counts=Counts(1, 1, 1, 0, 0, 0),
)
RING = RingDocument(
    tool=samples.TOOL,
    device_id="net0",
    qom_path="/machine/net0",
    queue=QUEUE,
    packed=PackedRing(
        descriptor_address=Address(0x7F0000000000),
        driver_event_address=Address(0x7F0000001000),
        device_event_address=Address(0x7F0000002000),
        descriptors=tuple(TAKEN.get(slot.slot, slot) for slot in SLOTS),
        guest=GUEST,
    ),
    chains=(
        Chain(
            7,
            "complete",
            (
                Descriptor(2, TABLE, 16, 4, flag_names=("indirect",), id=7),
                Descriptor(0, Address(0x5000), 100, 2, UNSET, ("write",), TABLE, 0),
            ),
            0,
            100,
        ),
    ),
)
ORDER = (Ordered(5, 1, False, None), Ordered(6, 2, True, 100), Ordered(9, 1, False, None))


def test_positions_have_their_wrap_counters_and_events_their_meaning() -> None:
    printed = text(print_ring, RING)
    assert "net0 queue 1 (tx0): packed ring, 256 slots, ready" in printed
    assert re.search(r"^last_avail_idx +3 w1 ", printed, re.MULTILINE)
    assert re.search(r"^used_idx +2 w0 ", printed, re.MULTILINE)
    assert re.search(r"^driver_event +at 2 w1 ", printed, re.MULTILINE)
    assert re.search(r"^device_event +disable ", printed, re.MULTILINE)
    assert "Driver event suppression: 0x7f0000001000 in QEMU" in printed


def test_slots_in_use_and_around_the_pointers_are_shown() -> None:
    printed = text(print_ring, RING)
    pattern = re.compile(r"^ *(\d+) +0x[0-9a-f]+ +16 +\d+ +\S+ +(?:used|taken|available)", re.M)
    assert [int(slot) for slot in pattern.findall(printed)] == [*range(8), 20, 30, 31]
    whole = text(print_ring, RING, detailed=True)
    assert [int(slot) for slot in pattern.findall(whole)] == list(range(32))
    assert re.search(r"^ +2 +0x9000 +16 +7 +indirect\|avail +taken +<- used_idx w0$", printed, re.M)


def test_chains_have_buffer_ids_and_no_next() -> None:
    printed = text(print_ring, RING)
    assert re.search(r"^head +index +address +length +flags +id +table$", printed, re.MULTILINE)
    assert re.search(r"^ +7 +2 +0x9000 +16 +indirect +7 +the ring's$", printed, re.MULTILINE)
    assert re.search(r"^ +7 +0 +0x5000 +100 +write +\(0\) +0x9000$", printed, re.MULTILINE)


def test_a_packed_ring_that_is_lost_says_why() -> None:
    lost = structs.replace(RING, packed=samples.LOST, chains=())
    assert "The ring cannot be shown: absent[1]" in text(print_ring, lost)
    assert isinstance(RING.packed, PackedRing)
    half = structs.replace(RING.packed, descriptors=samples.LOST)
    assert "absent[1]" in text(print_ring, structs.replace(RING, packed=half))


def test_who_holds_back_whom_is_told_everywhere() -> None:
    queue = structs.replace(samples.queue(1, inuse=4), in_order=ORDER)
    printed = text(print_ring, structs.replace(samples.RING, queue=queue))
    assert re.search(r"^ +5 +1 +- +not done: all others wait for it$", printed, re.MULTILINE)
    assert re.search(r"^ +6 +2 +100 +done, held back by 5$", printed, re.MULTILINE)
    assert re.search(r"^ +9 +1 +- +not done$", printed, re.MULTILINE)
    device = structs.replace(samples.DISK, queues=(queue,))
    report = structs.replace(samples.REPORT, devices=(device,))
    for printer in (print_queues, print_requests):
        note = "in order: 1 request is done (head 6) and held back by head 5, which is not"
        assert note in " ".join(text(printer, report).split())


def test_nobody_holds_back_anybody() -> None:
    for order in ((), ORDER[:1], ORDER[1:2], samples.LOST, UNSET):
        queue = structs.replace(samples.queue(1, inuse=1), in_order=order)
        device = structs.replace(samples.DISK, queues=(queue,))
        report = structs.replace(samples.REPORT, devices=(device,))
        assert "held back" not in text(print_queues, report)


def test_empty_packed_queues_are_left_out() -> None:
    counts = Counts(0, 0, 0, 0, 0, None)
    idle = structs.replace(
        samples.packed_queue(3), last_avail_idx=0, used_idx=0, counts=counts, guest=GUEST
    )
    device = structs.replace(samples.NET, queues=(QUEUE, idle))
    printed = text(print_queues, structs.replace(samples.REPORT, devices=(device,)), width=200)
    assert re.search(r"empty, at the start of their rings .* queues \S+ 3", printed)
    assert "w0 and w1 are wrap counters" in printed
