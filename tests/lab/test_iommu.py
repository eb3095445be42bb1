"""Devices behind an IOMMU: our translation against gdb's own walk, and against what QEMU mapped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.cli.command import vringcore as vringcore_command
from tests.cores import lab_cores
from tests.lab.cases import CoreCase
from tests.lab.test_oracle import has, host_address, translated
from vringcore.addresses import SPACE_END, HostAddress, IoVirtualAddress
from vringcore.errors import MemoryFault
from vringcore.layout.store import LayoutStore
from vringcore.memory.gaps import GapKind
from vringcore.model.report import RingDocument
from vringcore.model.requests import Descriptor
from vringcore.model.rings import PackedRing, SplitRing
from vringcore.model.values import Absent, Address
from vringcore.options import Options
from vringcore.qemu.flat_space import DmaSpace
from vringcore.qemu.iommu import iommu_space
from vringcore.qemu.memory import dma_space, flat_ranges, flat_rows
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
