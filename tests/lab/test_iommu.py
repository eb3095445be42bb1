"""Devices behind an IOMMU: our translation against gdb's own walk, and against what QEMU mapped."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vringcore
from tests.cli.command import vringcore as vringcore_command
from tests.cores import lab_cores
from tests.lab.cases import CoreCase
from tests.lab.partial import plain
from tests.lab.test_oracle import has, host_address, translated
from tests.qemu.damaged import Patched, core_over, over, patched
from vringcore.addresses import SPACE_END, HostAddress, IoVirtualAddress
from vringcore.errors import MemoryFault
from vringcore.layout.provider import LayoutStore
from vringcore.memory.gaps import GapKind
from vringcore.memory.space import AddressSpace, HostSpace, Piece
from vringcore.model.queues import EventSuppression, PackedGuest
from vringcore.model.report import RingDocument
from vringcore.model.requests import Descriptor
from vringcore.model.rings import PackedRing, SplitRing
from vringcore.model.values import Absent, Address
from vringcore.options import Options
from vringcore.qemu.flat_space import DmaSpace
from vringcore.qemu.glib_tree import search
from vringcore.qemu.iommu import iommu_space
from vringcore.qemu.iommu_structs import (
    AMDVIAddressSpace,
    AMDVIState,
    IOMMUDevice,
    VirtIOIOMMU,
    VirtIOIOMMUDomain,
    VirtIOIOMMUEndpoint,
)
from vringcore.qemu.memory import dma_space, flat_ranges, flat_rows
from vringcore.qemu.paged_space import Mapping
from vringcore.qemu.structs import VirtIODevice
from vringcore.slim.slim import slim_core

MAX_STEPS = 1_000_000
RING = ("desc", "avail", "used")

Opened = tuple[CoreCase, vringcore.Core]


@pytest.fixture(scope="module", params=lab_cores(has("iommu")))
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    case: CoreCase = request.param
    with case.open() as core:
        yield case, core


def behind(opened: Opened) -> Iterator[tuple[dict[str, Any], DmaSpace]]:
    """Yield gdb's facts of each device behind an IOMMU, and the memory that it sees."""
    case, core = opened
    views = core.process.views
    for device in case.gdb["devices"]:
        if device["iommu"]:
            yield device, dma_space(views, views.at(VirtIODevice, device["address"]).dma_as)


def at(address: int) -> IoVirtualAddress:
    return IoVirtualAddress(address)


def test_all_that_a_device_can_reach_is_what_gdb_finds(opened: Opened) -> None:
    """The whole of its 64-bit address space: every page, and every hole."""
    for device, space in behind(opened):
        found: list[dict[str, int]] = []
        place = 0
        for _ in range(MAX_STEPS):
            page = space.mapping(at(place))
            if page is None:  # the window of interrupts is a range of its own
                place += 0x1000
                continue
            if page.physical is not None:
                here = {"iova": page.start, "size": page.size, "physical": page.physical}
                last = found[-1] if found else None
                if last and here["iova"] - last["iova"] == last["size"] == (
                    here["physical"] - last["physical"]
                ):
                    last["size"] += here["size"]
                else:
                    found.append(here)
            place = page.start + page.size
            if place == SPACE_END:
                break
        assert place == SPACE_END
        assert found == device["iommu"]["mappings"]


def test_every_buffer_of_every_request_leads_to_where_qemu_mapped_it(opened: Opened) -> None:
    case, _core = opened
    spaces = {device["address"]: space for device, space in behind(opened)}
    compared = 0
    for request in case.gdb["requests"]:
        for buffer in request["in_buffers"] + request["out_buffers"]:
            space = spaces[request["device"]]
            assert space.host_address(at(buffer["dma_address"])) == buffer["host_address"]
            compared += 1
    assert compared >= 3 * len(case.gdb["requests"]) > 0


def test_descriptors_in_flight_tell_their_guest_physical_address(opened: Opened) -> None:
    case, core = opened
    truth = {d["address"]: d["iommu"] for d in case.gdb["devices"]}
    compared = 0
    for device in core.virtio_devices():
        iommu = truth[int(device.address)]
        for queue in device.queues or ():
            assert queue.ring_state == "ready"
            chains = core.ring(str(device.index), queue.index).chains
            lists = [chain.descriptors for chain in chains]
            lists += [r.descriptors for r in queue.in_flight or () if r.descriptors]
            for descriptor in (each for descriptors in lists for each in descriptors):
                compare_descriptor(case, descriptor, iommu)
                compared += iommu is not None
    assert compared > 2 * len(case.gdb["requests"])


def compare_descriptor(
    case: CoreCase, descriptor: Descriptor, iommu: dict[str, Any] | None
) -> None:
    if iommu is None:
        assert descriptor.guest_address is None
        return
    physical = translated(iommu["mappings"], int(descriptor.address))
    assert descriptor.guest_address == physical
    assert host_address(case, physical)


def ring_of(document: RingDocument) -> SplitRing | PackedRing:
    """Return the ring of a document, of either form."""
    ring = document.split or document.packed
    assert isinstance(ring, SplitRing | PackedRing)
    return ring


def places_of(ring: SplitRing | PackedRing) -> list[Address | Absent]:
    """Return where its parts lie in QEMU, in the order of the specification."""
    return [getattr(ring, name) for name in type(ring).__struct_fields__ if "_address" in name]


def test_the_parts_of_a_ring_are_where_qemu_has_their_bytes(opened: Opened) -> None:
    case, core = opened
    for device in core.virtio_devices():
        queues = next(d for d in case.gdb["devices"] if d["address"] == device.address)["queues"]
        for truth in queues:
            if truth["rings_through"] != "iommu":
                continue
            ring = ring_of(core.ring(str(device.index), truth["fields"]["queue_index"]))
            for place, part in zip(places_of(ring), RING, strict=True):
                assert not isinstance(place, Absent)
                seen = core.process.views.space.read(HostAddress(int(place)), 4)
                assert seen.hex() == truth["rings"][part][:8]


def test_what_no_table_maps_names_the_entry_that_says_so(opened: Opened) -> None:
    for device, space in behind(opened):
        first = device["iommu"]["mappings"][0]["iova"]
        if device["iommu"]["mode"] == "off":
            assert first == 0  # nothing is denied
            continue
        with pytest.raises(MemoryFault) as caught:
            space.read(at(first - 8), 16)
        assert caught.value.address == first - 8
        gap = caught.value.gap
        assert gap.kind is GapKind.UNMAPPED
        if device["iommu"]["kind"].startswith("intel"):
            assert "entry of level 1 at guest-physical" in gap.hint
        else:
            assert "mappings at 0x" in gap.hint


def test_the_window_of_interrupts_is_no_memory(opened: Opened) -> None:
    for _device, space in behind(opened):
        with pytest.raises(MemoryFault) as caught:
            space.read(at(0xFEE00000), 4)
        assert caught.value.gap.kind in (GapKind.NOT_RAM, GapKind.UNMAPPED)


def test_an_iommu_of_another_kind_is_named(opened: Opened) -> None:
    _case, core = opened
    views = core.process.views
    row = flat_rows(views, views.address_of("address_space_memory"))[0]
    space = iommu_space(views, row.region)
    with pytest.raises(MemoryFault, match="memory region of type memory-region") as caught:
        space.read(at(0), 1)
    assert caught.value.gap.kind is GapKind.UNTRANSLATABLE
    with pytest.raises(MemoryFault, match="state of the IOMMU cannot be read"):
        iommu_space(views, 0x10).read(at(0), 1)


def test_the_flat_view_says_where_an_iommu_is_in_force(opened: Opened) -> None:
    case, core = opened
    views = core.process.views
    for device in case.gdb["devices"]:
        ranges = flat_ranges(views, views.at(VirtIODevice, device["address"]).dma_as)
        assert any(each.is_iommu for each in ranges) is (device["iommu"] is not None)


# The same cores with other words in the tables


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


# What else reads as a device does


def test_memory_is_read_as_a_device_reads_it(opened: Opened, tmp_path: Path) -> None:
    case, _core = opened
    executable = str(case.case.executable)
    device = next(d for d in case.gdb["devices"] if d["iommu"])
    queue = device["queues"][0]
    place, expected = queue["fields"]["vring.desc"], bytes.fromhex(queue["rings"]["desc"])
    words = ["memory", "read", str(case.path), hex(place), str(len(expected))]
    words += ["--device", device["id"], "-e", executable]
    out = tmp_path / "ring"
    assert vringcore_command(*words, "--raw", "-o", str(out)).returncode == 0
    assert out.read_bytes() == expected
    document = json.loads(vringcore_command(*words, "--json").stdout)["read"]
    assert document["space"] == "device"
    assert "".join(piece["data"] for piece in document["pieces"]) == expected.hex()
    refused = vringcore_command(*words, "--cpu", "0")
    assert refused.returncode == 2
    assert "--cpu and --device" in refused.stderr


def test_a_small_core_holds_the_headers_that_lie_behind_the_iommu(
    opened: Opened, tmp_path: Path
) -> None:
    case, _core = opened
    path = tmp_path / "small"
    slim_core(str(case.path), str(path), options=Options(executable=str(case.case.executable)))
    compared = 0
    with vringcore.open_core(str(path), sysroot=str(tmp_path), store=LayoutStore()) as small:
        views = small.process.views
        for device, space in behind(opened):
            dma_as = views.at(VirtIODevice, device["address"]).dma_as
            its = dma_space(views, dma_as)
            for request in case.gdb["requests"]:
                header = at(request["out_buffers"][0]["dma_address"])
                assert its.read(header, 16) == space.read(header, 16)
                compared += 1
    assert compared == len(case.gdb["requests"])


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
