"""The virtio layer alone on real cores: gdb says where the rings are and what QEMU made of them.

Nothing of vringcore.qemu is used: addresses, indices and the translation of guest addresses are
gdb's, so what is compared is the reading of rings and chains itself.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.cores import cores, has_devices
from tests.lab.cases import CoreCase
from vringcore.addresses import HostAddress
from vringcore.elfcore.core import open_elf_core
from vringcore.errors import MemoryFault
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.space import AddressSpace, HostSpace, Piece
from vringcore.virtio import counts
from vringcore.virtio.blk import read_request
from vringcore.virtio.chain import ChainEnd, walk_chain
from vringcore.virtio.features import EVENT_IDX, RING_PACKED, has_feature
from vringcore.virtio.packed import (
    PackedAddresses,
    PackedRing,
    Position,
    available_chains,
    count_available,
)
from vringcore.virtio.packed_search import ChainFinder
from vringcore.virtio.split import RingAddresses, SplitRing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.virtio.descriptors import Descriptor


class GuestSpace(AddressSpace[int]):
    """Guest memory by gdb's reading of QEMU's FlatView."""

    def __init__(self, host: HostSpace, flat_view: list[dict[str, Any]]) -> None:
        self.host = host
        self.flat_view = [part for part in flat_view if part["host"]]

    def pieces(self, address: int, size: int) -> Iterator[Piece]:
        for part in self.flat_view:
            start = part["start"]
            if start <= address and address + size <= start + part["size"]:
                yield from self.host.pieces(HostAddress(part["host"] + address - start), size)
                return
        yield Piece(address, size, None, Gap(GapKind.NOT_RAM, address, size))


@pytest.fixture(params=cores(has_devices))
def case(request: pytest.FixtureRequest) -> CoreCase:
    assert isinstance(request.param, CoreCase)
    return request.param


@pytest.fixture
def memory(case: CoreCase) -> Iterator[HostSpace]:
    with open_elf_core(str(case.path)) as core:
        yield core.memory


def split_rings(
    case: CoreCase, memory: HostSpace
) -> Iterator[tuple[dict[str, Any], dict[str, Any], SplitRing[HostAddress]]]:
    """Yield device, queue and ring of every split ring that QEMU has mapped."""
    for device in case.gdb["devices"]:
        features = device["fields"]["guest_features"]
        for queue in device["queues"]:
            caches = (queue["caches"] or {}).get("fields", {})
            parts = [caches.get(f"{part}.ptr") for part in ("desc", "avail", "used")]
            if all(parts) and not has_feature(features, RING_PACKED):
                yield (
                    device,
                    queue,
                    SplitRing(
                        memory,
                        RingAddresses(*parts),
                        queue["fields"]["vring.num"],
                        event_idx=has_feature(features, EVENT_IDX),
                    ),
                )


def word(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 2], "little")


def test_every_part_of_every_ring_is_the_raw_bytes(case: CoreCase, memory: HostSpace) -> None:
    for _, queue, ring in split_rings(case, memory):
        truth = queue["rings"]
        if None in truth.values():
            with pytest.raises(MemoryFault):
                ring.descriptors()
            continue
        table, available, used = (bytes.fromhex(truth[p]) for p in ("desc", "avail", "used"))
        assert ring.breaches() == ()
        for d in ring.descriptors():
            raw = b"".join(
                value.to_bytes(width, "little")
                for value, width in ((d.address, 8), (d.length, 4), (d.flags, 2), (d.next, 2))
            )
            assert raw == table[16 * d.index : 16 * d.index + 16]
        indices = ring.indices()
        assert (indices.avail_flags, indices.avail_idx) == (word(available, 0), word(available, 2))
        assert (indices.used_flags, indices.used_idx) == (word(used, 0), word(used, 2))
        if ring.event_idx:
            assert indices.used_event == word(available, 4 + 2 * ring.size)
            assert indices.avail_event == word(used, 4 + 8 * ring.size)
        heads = b"".join(head.to_bytes(2, "little") for head in ring.available())
        assert heads == available[4 : 4 + 2 * ring.size]
        entries = b"".join(n.to_bytes(4, "little") for entry in ring.used() for n in entry)
        assert entries == used[4 : 4 + 8 * ring.size]


def test_popped_is_what_qemu_counts_in_use(case: CoreCase, memory: HostSpace) -> None:
    for device, queue, ring in split_rings(case, memory):
        if (device.get("vhost") or {}).get("listed"):
            continue  # The back-end pops.
        if device["fields"]["broken"]:
            continue  # What ends there is given back to nobody, and not in use any more.
        fields, used_idx = queue["fields"], ring.indices().used_idx
        if not isinstance(used_idx, int):
            continue
        popped = counts.popped(fields["last_avail_idx"], used_idx)
        assert counts.leaked(popped, fields["inuse"]) == 0


def packed_rings(
    case: CoreCase, memory: HostSpace
) -> Iterator[tuple[dict[str, Any], dict[str, Any], PackedRing[HostAddress]]]:
    """Yield device, queue and ring of every packed ring that QEMU has mapped."""
    for device in case.gdb["devices"]:
        if not has_feature(device["fields"]["guest_features"], RING_PACKED):
            continue
        for queue in device["queues"]:
            caches = (queue["caches"] or {}).get("fields", {})
            parts = [caches.get(f"{part}.ptr") for part in ("desc", "avail", "used")]
            if all(parts):
                size = queue["fields"]["vring.num"]
                yield device, queue, PackedRing(memory, PackedAddresses(*parts), size)


def positions(fields: dict[str, Any]) -> tuple[Position, Position]:
    """Return where QEMU will write the next used descriptor, and where it will look next."""
    return (
        Position(fields["used_idx"], bool(fields["used_wrap_counter"])),
        Position(fields["last_avail_idx"], bool(fields["last_avail_wrap_counter"])),
    )


def test_packed_rings_are_the_raw_bytes_and_their_positions_count_what_is_in_use(
    case: CoreCase, memory: HostSpace
) -> None:
    for _, queue, ring in packed_rings(case, memory):
        truth = {part: bytes.fromhex(raw) for part, raw in queue["rings"].items() if raw}
        if len(truth) < 3:
            continue
        assert ring.breaches() == ()
        assert (
            b"".join(
                struct.pack("<QIHH", d.address, d.length, d.id, d.flags) for d in ring.descriptors()
            )
            == truth["desc"]
        )
        for event, part in ((ring.driver_event(), "avail"), (ring.device_event(), "used")):
            assert struct.pack("<HH", event.off_wrap, event.flags) == truth[part]
        used, avail = positions(queue["fields"])
        assert avail.since(used, ring.size) == queue["fields"]["inuse"]
        assert len(available_chains(ring, avail, memory)) == count_available(ring, avail)


def test_packed_chains_of_requests_in_flight_are_found_by_what_qemu_popped(
    case: CoreCase, memory: HostSpace
) -> None:
    guest = GuestSpace(memory, case.gdb["flat_view"])
    finders = {
        (device["address"], queue["fields"]["queue_index"]): ChainFinder(
            ring, positions(queue["fields"])[1], guest
        )
        for device, queue, ring in packed_rings(case, memory)
    }
    for request in case.gdb["requests"]:
        finder = finders.get((request["device"], request["queue"]))
        if finder is None or not finder.conclusive:
            continue
        mapped = [b["dma_address"] for b in request["out_buffers"] + request["in_buffers"]]
        found = finder.find(request["index"], request["ndescs"], mapped)
        assert found is not None
        assert (found.chain.end, found.chain.remarks) == (ChainEnd.COMPLETE, ())
        for writable, truth in ((False, "out_buffers"), (True, "in_buffers")):
            expected = [(b["dma_address"], b["length"]) for b in request[truth]]
            assert ranges(found.chain.buffers(writable=writable)) == expected
        header = read_request(found.chain, guest).header
        assert (header.type, header.sector) == (request["type"], request["out_sector"])


def ranges(buffers: Iterator[Descriptor]) -> list[tuple[int, int]]:
    return [(buffer.address, buffer.length) for buffer in buffers]


def test_chains_of_requests_in_flight_are_the_elements_qemu_popped(
    case: CoreCase, memory: HostSpace
) -> None:
    guest = GuestSpace(memory, case.gdb["flat_view"])
    rings = {
        (device["address"], queue["fields"]["queue_index"]): ring
        for device, queue, ring in split_rings(case, memory)
    }
    for request in case.gdb["requests"]:
        ring = rings.get((request["device"], request["queue"]))
        if ring is None or isinstance(ring.indices().avail_idx, MemoryFault):
            continue
        chain = walk_chain(ring.table, request["index"], guest)
        assert (chain.end, chain.remarks) == (ChainEnd.COMPLETE, ())
        for writable, truth in ((False, "out_buffers"), (True, "in_buffers")):
            expected = [(b["dma_address"], b["length"]) for b in request[truth]]
            assert ranges(chain.buffers(writable=writable)) == expected
        if not case.whole:
            continue  # the driver's copy of the header is in no small core
        found = read_request(chain, guest)
        assert (found.header.type, found.header.sector) == (request["type"], request["out_sector"])
        assert found.status_address == sum(expected[-1]) - 1
