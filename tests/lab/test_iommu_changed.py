"""Devices behind an IOMMU on real cores with other words in its tables and in its state."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cores import lab_cores
from tests.lab.cases import CoreCase
from tests.lab.partial import plain
from tests.lab.test_iommu import RING, Opened, at, behind, places_of, ring_of
from tests.lab.test_oracle import has, host_address, translated
from tests.qemu.damaged import Patched, core_over, over, patched
from vringcore.addresses import SPACE_END, HostAddress
from vringcore.memory.space import AddressSpace, HostSpace, Piece
from vringcore.model.queues import EventSuppression, PackedGuest
from vringcore.model.rings import SplitRing
from vringcore.model.values import Absent
from vringcore.qemu.flat_space import DmaSpace
from vringcore.qemu.glib_tree import search
from vringcore.qemu.iommu_structs import (
    AMDVIAddressSpace,
    AMDVIState,
    IOMMUDevice,
    VirtIOIOMMU,
    VirtIOIOMMUDomain,
    VirtIOIOMMUEndpoint,
)
from vringcore.qemu.memory import dma_space, flat_rows
from vringcore.qemu.paged_space import Mapping
from vringcore.qemu.structs import VirtIODevice


def leaf(case: CoreCase, space: DmaSpace, device: dict[str, Any], iova: int) -> int:
    """Return where QEMU has the level 1 entry of an address: beside one that is not present."""
    absent = device["iommu"]["mappings"][0]["iova"] - 0x1000
    assert absent >> 21 == iova >> 21
    page = space.mapping(at(absent))
    assert page is not None
    assert page.gap is not None
    found = re.search(r"entry of level 1 at guest-physical (0x[0-9a-f]+)", page.gap.hint)
    assert found
    return host_address(case, int(found[1], 16) + 8 * ((iova >> 12) - (absent >> 12)))


Behind = tuple[Opened, dict[str, Any], DmaSpace]
"""An open core, gdb's facts of a device behind an IOMMU, and what that device sees."""


def of_kind(name: str) -> Callable[[CoreCase], bool]:
    """Return a condition: a device is behind an IOMMU of a kind."""

    def condition(core: CoreCase) -> bool:
        return has("iommu")(core) and any(
            device["iommu"] and device["iommu"]["kind"].startswith(name)
            for device in core.gdb["devices"]
        )

    return condition


def first_behind(case: CoreCase) -> Iterator[Behind]:
    with case.open() as core:
        opened = case, core
        yield opened, *next(behind(opened))


@pytest.fixture(scope="module", params=lab_cores(of_kind("intel")))
def intel(request: pytest.FixtureRequest) -> Iterator[Behind]:
    yield from first_behind(request.param)


@pytest.fixture(scope="module", params=lab_cores(of_kind("virtio")))
def virtio(request: pytest.FixtureRequest) -> Iterator[Behind]:
    yield from first_behind(request.param)


def test_a_ring_that_the_guest_unmapped_is_unreadable_and_says_why(intel: Behind) -> None:
    (case, core), device, space = intel
    ring = {name: device["queues"][0]["fields"][f"vring.{name}"] for name in RING}
    places = {name: leaf(case, space, device, iova) for name, iova in ring.items()}
    patches = dict.fromkeys(places.values(), bytes(8))
    small = core_over(core.process, Patched(core.process.views.space, patches))
    disk = next(d for d in small.virtio_devices() if d.address == device["address"])
    queues = disk.queues
    assert isinstance(queues, tuple)
    assert [queue.ring_state for queue in queues] == ["unreadable", "ready", "ready", "ready"]
    why: object = queues[0].guest
    part = "desc"
    if isinstance(why, PackedGuest):
        why, part = why.driver_event, "avail"
    assert isinstance(why, Absent)
    assert (why.reason, why.address) == ("unmapped", ring[part])
    assert "entry of level 1 at guest-physical 0x" in why.hint
    in_flight = queues[0].in_flight
    assert isinstance(in_flight, tuple)
    assert len(in_flight) == device["queues"][0]["fields"]["inuse"] > 0
    assert all(each.request and each.request.buffers for each in in_flight)


def test_a_part_of_a_ring_that_is_unmapped_does_not_hide_the_others(intel: Behind) -> None:
    (case, core), device, space = intel
    place = leaf(case, space, device, device["queues"][0]["fields"]["vring.desc"])
    small = core_over(core.process, Patched(core.process.views.space, {place: bytes(8)}))
    index = next(d for d in small.virtio_devices() if d.address == device["address"]).index
    document = small.ring(str(index), 0)
    assert document.queue.ring_state == "ready"
    ring = ring_of(document)
    for lost in (ring.descriptor_address, ring.descriptors):
        assert isinstance(lost, Absent)
        assert lost.reason == "unmapped"
    assert not any(isinstance(place, Absent) for place in places_of(ring)[1:])
    raw = bytes.fromhex(device["queues"][0]["rings"]["avail"])[:4]
    if isinstance(ring, SplitRing):
        flags, idx = struct.unpack("<HH", raw)
        assert (ring.guest.avail_flags, ring.guest.avail_idx) == (flags, idx)
        assert {chain.end for chain in document.chains} == {"fault"}
    else:
        event = ring.guest.driver_event
        assert isinstance(event, EventSuppression)
        assert struct.unpack("<HH", raw) == (event.off_wrap, event.flags)


def test_a_mapping_that_forbids_what_a_descriptor_is_for_is_told(intel: Behind) -> None:
    (case, core), device, space = intel
    request = next(r for r in case.gdb["requests"] if r["device"] == device["address"])
    buffer = request["in_buffers"][0]
    place = leaf(case, space, device, buffer["dma_address"])
    views = core.process.views
    entry = views.integer(place, 8) & ~2
    patches = {place: entry.to_bytes(8, "little")}
    small = core_over(core.process, Patched(views.space, patches))
    index = next(d for d in small.virtio_devices() if d.address == device["address"]).index
    told = {
        (descriptor.guest_address.reason, descriptor.guest_address.address)
        for chain in small.ring(str(index), request["queue"]).chains
        for descriptor in chain.descriptors
        if isinstance(descriptor.guest_address, Absent)
    }
    physical = translated(device["iommu"]["mappings"], buffer["dma_address"])
    assert ("not-writable", physical) in told
    assert {reason for reason, _ in told} == {"not-writable"}


# The states of virtio-iommu that no case of the lab has


@pytest.mark.parametrize(
    ("bypass", "attached", "domain_bypass", "leads_on"),
    [
        (1, False, 0, True),
        (0, False, 0, False),
        (0, True, 1, True),
        (1, True, 0, None),
    ],
)
def test_virtio_iommu_lets_through_what_its_state_says(
    virtio: Behind, bypass: int, attached: bool, domain_bypass: int, leads_on: bool | None
) -> None:
    """Without a domain the unit's own setting counts, with one the domain's.

    :param leads_on: to the same address, to nothing, or (None) by the domain's mappings
    """
    (_case, core), device, space = virtio
    views = core.process.views
    region = flat_rows(views, views.at(VirtIODevice, device["address"]).dma_as)[0].region
    its = views.at(IOMMUDevice, region - views.offset(IOMMUDevice.c_type, "iommu_mr"))
    unit = views.at(VirtIOIOMMU, its.viommu)
    endpoint = search(views, unit.endpoints, lambda key: (its.devfn > key) - (its.devfn < key))
    assert endpoint.value
    domain = views.at(VirtIOIOMMUEndpoint, endpoint.value).domain
    patches = {
        unit.address_ + views.offset(VirtIOIOMMU.c_type, "config.bypass"): bytes([bypass]),
        domain + views.offset(VirtIOIOMMUDomain.c_type, "bypass"): bytes([domain_bypass]),
    }
    if not attached:
        patches[endpoint.value + views.offset(VirtIOIOMMUEndpoint.c_type, "domain")] = bytes(8)
    other = patched(views, patches)
    changed = dma_space(other, views.at(VirtIODevice, device["address"]).dma_as)
    mapped = device["iommu"]["mappings"][0]
    for address in (mapped["iova"], 0x1234):
        page = changed.mapping(at(address))
        assert page is not None
        if leads_on is None:
            assert page == space.mapping(at(address))
        elif leads_on:
            assert page.physical == page.start == 0
        else:
            assert page.gap is not None
            assert "in no domain" in page.gap.hint


@pytest.mark.parametrize("core", lab_cores(of_kind("amd")))
def test_amd_iommu_is_followed_only_while_it_is_off(core: CoreCase) -> None:
    with core.open() as opened:
        views = opened.process.views
        device, space = next(behind((core, opened)))
        assert space.mapping(at(0x1234)) == Mapping(0, SPACE_END, 0)
        dma_as = views.at(VirtIODevice, device["address"]).dma_as
        region = flat_rows(views, dma_as)[0].region
        its = views.at(AMDVIAddressSpace, region - views.offset(AMDVIAddressSpace.c_type, "iommu"))
        enabled = its.iommu_state + views.offset(AMDVIState.c_type, "enabled")
        on = core_over(opened.process, Patched(views.space, {enabled: b"\1"}))
        disk = next(d for d in on.virtio_devices() if d.address == device["address"])
        assert isinstance(disk.queues, tuple)
        for queue in disk.queues:
            assert queue.ring_state == "untranslatable"
            assert isinstance(queue.guest, Absent)
            assert queue.guest.reason == "behind-iommu"
            assert "amd-iommu-iommu-memory-region" in queue.guest.hint
            assert queue.in_flight


class Noted(AddressSpace[HostAddress]):
    """Memory that notes where it was read."""

    name = "noted memory"

    def __init__(self, space: HostSpace) -> None:
        self._space = space
        self.places: list[tuple[int, int]] = []

    def read(self, address: HostAddress, size: int) -> bytes:
        self.places.append((address, size))
        return self._space.read(address, size)

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        self.places.append((address, size))
        return self._space.pieces(address, size)


def words_of_tables(intel: Behind) -> list[int]:
    """Return where in QEMU the words lie that the way to a ring leads over."""
    (case, core), device, _space = intel
    views = core.process.views
    noted = Noted(views.space)
    other = over(views, noted)
    space = dma_space(other, views.at(VirtIODevice, device["address"]).dma_as)
    space.mapping(at(device["queues"][0]["fields"]["vring.desc"]))
    ram = [(r["host"], r["host"] + r["size"]) for r in case.gdb["flat_view"] if r["host"]]
    return [
        address + at_byte
        for address, size in noted.places
        if any(start <= address < end for start, end in ram)
        for at_byte in range(0, size, 8)
    ]


def test_whatever_stands_in_the_tables_every_question_is_answered(intel: Behind) -> None:
    (_case, core), device, _space = intel
    views, words = core.process.views, words_of_tables(intel)
    assert len(words) >= 5

    @settings(max_examples=12)
    @given(
        st.dictionaries(st.sampled_from(words), st.integers(0, (1 << 64) - 1), min_size=1),
        st.booleans(),
    )
    def answers(changes: dict[int, int], one_bit: bool) -> None:
        patches = {}
        for place, value in changes.items():
            word = views.integer(place, 8) ^ (1 << value % 64) if one_bit else value
            patches[place] = word.to_bytes(8, "little")
        other = core_over(core.process, Patched(views.space, patches))
        disk = next(d for d in other.virtio_devices() if d.address == device["address"])
        assert isinstance(disk.queues, tuple)
        for queue, truth in zip(disk.queues, device["queues"], strict=True):
            assert isinstance(queue.in_flight, tuple)
            assert len(queue.in_flight) == len(requests_of(intel, truth))
            assert plain(other.ring(str(disk.index), queue.index))

    answers()


def requests_of(intel: Behind, queue: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the requests that gdb finds of a queue of the device."""
    (case, _core), device, _space = intel
    wanted = device["address"], queue["fields"]["queue_index"]
    return [r for r in case.gdb["requests"] if (r["device"], r["queue"]) == wanted]
