"""Guest memory against a flat model, against gdb, and against what QEMU said of itself."""

from __future__ import annotations

import re
import subprocess
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.arm64 import debugger
from tests.qemu.support import Image
from vringcore.addresses import GuestAddress
from vringcore.errors import AddressOverflowError, MemoryFault
from vringcore.memory.gaps import GapKind
from vringcore.qemu import memory, ramblocks
from vringcore.qemu.flat_space import FlatRow, FlatSpace, GuestSpace, Region
from vringcore.qemu.iommu import UniformSpace, denied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.cases import CoreCase
    from vringcore.qemu.process import Process

RAM, ROM, MMIO, IOMMU, LOST = 1, 2, 3, 4, 5
RAM_HOST, ROM_HOST, LOST_HOST = 0x7F00_0000_0000, 0x7E00_0000_0000, 0x7D00_0000_0000

RAM_BYTES = bytes(range(256)) * 16
REGIONS = {
    RAM: Region(RAM_HOST, 4096),
    ROM: Region(ROM_HOST, 256),
    MMIO: Region(None, 0),
    IOMMU: Region(
        None,
        0,
        UniformSpace(
            FlatSpace(Image({}), (), lambda _: Region(None, 0)),
            denied(0, 1 << 64, GapKind.UNTRANSLATABLE, "not followed"),
        ),
    ),
    LOST: Region(LOST_HOST, 4096),
}


def guest(rows: list[FlatRow], gap: GapKind = GapKind.UNMAPPED) -> GuestSpace:
    image = Image({RAM_HOST: RAM_BYTES, ROM_HOST: b"\xaa" * 256}, gap)
    return FlatSpace(image, rows, REGIONS.__getitem__)


def row(start: int, size: int, region: int, offset: int = 0) -> FlatRow:
    return FlatRow(start, start + size, region, offset, False)


def at(address: int) -> GuestAddress:
    return GuestAddress(address)


@st.composite
def maps(draw: st.DrawFn) -> tuple[list[FlatRow], dict[int, int]]:
    """A memory map, and as a model the byte at every guest address that has one."""
    rows: list[FlatRow] = []
    model: dict[int, int] = {}
    place = draw(st.integers(0, 20))
    for _ in range(draw(st.integers(0, 8))):
        size = draw(st.integers(1, 60))
        region = draw(st.sampled_from([RAM, ROM, MMIO, IOMMU, LOST]))
        offset = draw(st.integers(0, 300 if region == ROM else 4000))
        rows.append(row(place, size, region, offset))
        for n in range(size):
            if region == RAM and offset + n < len(RAM_BYTES):
                model[place + n] = RAM_BYTES[offset + n]
            if region == ROM and offset + n < 256:
                model[place + n] = 0xAA
        place += size + draw(st.sampled_from([0, 0, 1, 7]))
    return rows, model


@given(maps(), st.integers(0, 600), st.integers(0, 200))
def test_reads_equal_a_flat_model(
    made: tuple[list[FlatRow], dict[int, int]], address: int, size: int
) -> None:
    rows, model = made
    space = guest(rows)
    wanted = [model.get(address + n) for n in range(size)]
    seen: list[int | None] = []
    for piece in space.pieces(at(address), size):
        assert piece.address == address + len(seen)
        assert (piece.data is None) != (piece.gap is None)
        if piece.gap is not None:
            assert piece.gap.address == piece.address
            assert piece.gap.size == piece.size
        seen += list(piece.data) if piece.data is not None else [None] * piece.size
    assert seen == wanted
    if None not in wanted:
        assert space.read(at(address), size) == bytes(b for b in wanted if b is not None)
        for n in range(size):
            host = space.host_address(at(address + n))
            assert host - RAM_HOST in range(4096) or host - ROM_HOST in range(256)
    else:
        with pytest.raises(MemoryFault) as caught:
            space.read(at(address), size)
        assert caught.value.address == address + wanted.index(None)


def test_gaps_tell_their_kind() -> None:
    space = guest([row(0, 16, RAM), row(16, 16, MMIO), row(32, 16, IOMMU), row(64, 16, LOST)])
    gaps = [(p.address, p.gap.kind) for p in space.pieces(at(0), 80) if p.gap is not None]
    assert gaps == [
        (16, GapKind.NOT_RAM),
        (32, GapKind.UNTRANSLATABLE),
        (48, GapKind.NOT_RAM),
        (64, GapKind.NOT_DUMPED),
    ]


@pytest.mark.parametrize("kind", [GapKind.UNMAPPED, GapKind.NOT_DUMPED])
def test_guest_ram_left_out_says_how_to_get_it(kind: GapKind) -> None:
    with pytest.raises(MemoryFault, match="dump-guest-core=on") as caught:
        guest([row(0x1000, 16, LOST)], kind).read(at(0x1004), 4)
    assert caught.value.gap.kind is GapKind.NOT_DUMPED
    assert caught.value.address == 0x1004


def test_a_truncated_core_stays_truncated() -> None:
    with pytest.raises(MemoryFault) as caught:
        guest([row(0, 16, LOST)], GapKind.TRUNCATED).read(at(0), 4)
    assert caught.value.gap.kind is GapKind.TRUNCATED


@pytest.mark.parametrize("address", [0, 16, 31, 48])
def test_what_is_no_ram_has_no_host_address(address: int) -> None:
    space = guest([row(16, 8, MMIO), row(24, 16, IOMMU)])
    with pytest.raises(MemoryFault) as caught:
        space.host_address(at(address))
    translated = address == 31
    assert caught.value.gap.kind is (GapKind.UNTRANSLATABLE if translated else GapKind.NOT_RAM)
    assert (space.mapping(at(address)) is not None) is translated


def test_reads_stay_in_the_address_space() -> None:
    with pytest.raises(AddressOverflowError):
        guest([row(0, 16, RAM)]).read(at((1 << 64) - 4), 8)
    with pytest.raises(AddressOverflowError):
        guest([row(0, 16, RAM)]).read(at(4), -1)
    top = guest([row((1 << 64) - 16, 16, RAM)])
    assert top.read(at((1 << 64) - 4), 4) == RAM_BYTES[12:16]


def test_ranges_are_ram_with_what_can_be_read() -> None:
    space = guest([row(0, 16, RAM), row(16, 16, MMIO), row(32, 300, ROM), row(400, 8, LOST)])
    assert [(r.address, r.size, r.readable) for r in space.ranges()] == [
        (0, 16, 16),
        (32, 300, 256),
        (400, 8, 0),
    ]


# Real cores


@pytest.mark.lab
def test_the_flat_view_equals_gdbs(lab_core: CoreCase, process: Process) -> None:
    views = process.views
    ours = memory.flat_ranges(views, views.address_of("address_space_memory"))
    theirs = lab_core.gdb["flat_view"]
    assert [(r.start, r.size, r.name, r.readonly, r.host or 0) for r in ours] == [
        (r["start"], r["size"], r["region"], r["readonly"], r["host"]) for r in theirs
    ]
    assert not any(r.is_iommu for r in ours)


@pytest.mark.lab
def test_the_flat_view_equals_what_qemu_said(lab_core: CoreCase, process: Process) -> None:
    said = lab_core.case.qmp_before
    if said is None or lab_core.case.qmp_after is None:
        pytest.skip("QEMU did not say it before and after")
    text = said["info mtree -f"]
    if text != lab_core.case.qmp_after["info mtree -f"]:
        pytest.skip("the memory map was changing")
    views = process.views
    ours = memory.flat_ranges(views, views.address_of("address_space_memory"))
    assert [(r.start, r.start + r.size - 1, r.name) for r in ours] == list(_of_memory(text))


def _of_memory(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the ranges of the flat view that the address space "memory" shares in."""
    view = next(v for v in text.split("FlatView #") if 'AS "memory"' in v)
    line = r"^  ([0-9a-f]{16})-([0-9a-f]{16}) \(.*?\): (.*?)(?: @[0-9a-f]{16})?(?: KVM)?\r?$"
    for start, end, name in re.findall(line, view, re.MULTILINE):
        yield int(start, 16), int(end, 16), name


@pytest.mark.lab
def test_ram_blocks_equal_gdbs(lab_core: CoreCase, process: Process) -> None:
    assert [
        {
            "address": int(block.address_),
            "idstr": block.idstr,
            "host": int(block.host),
            "used_length": block.used_length,
            "max_length": block.max_length,
            "offset": block.offset,
        }
        for block in ramblocks.ram_blocks(process.views)
    ] == lab_core.gdb["ram_blocks"]


@pytest.mark.lab
def test_guest_memory_equals_gdbs_bytes(lab_core: CoreCase, process: Process) -> None:
    """Read over the borders of ranges; gdb reads the same bytes at the host addresses it knows."""
    space = process.guest_memory
    rows = [r for r in lab_core.gdb["flat_view"] if r["host"]]
    pairs = [(a, b) for a, b in pairwise(rows) if _touch(a, b)]
    assert pairs
    state = process.core_info.guest_ram
    if "ram0" in state or not state.startswith(("present", "partial")):
        for _, second in pairs:
            with pytest.raises(MemoryFault) as caught:
                space.read(at(second["start"] - 32), 64)
            assert caught.value.gap.kind in (GapKind.NOT_DUMPED, GapKind.FILE_NEEDED)
        return
    commands = [
        f"x/32xb {host}" for a, b in pairs for host in (a["host"] + a["size"] - 32, b["host"])
    ]
    theirs = _gdb_bytes(lab_core, commands)
    ours = b"".join(space.read(at(second["start"] - 32), 64) for _, second in pairs)
    assert ours == theirs
    assert any(ours)


def _touch(first: dict[str, int], second: dict[str, int]) -> bool:
    return first["start"] + first["size"] == second["start"]


def _gdb_bytes(core: CoreCase, commands: list[str]) -> bytes:
    arguments = [part for command in commands for part in ("-ex", command)]
    ended = subprocess.run(
        [
            *debugger(core.case.executable),
            "-batch",
            "-nx",
            *arguments,
            str(core.case.executable),
            str(core.path),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = [line.split(":", 1)[1] for line in ended.stdout.splitlines() if ":\t0x" in line]
    return bytes(int(number, 16) for line in lines for number in line.split())


@pytest.mark.lab
def test_what_no_ram_answers_is_not_ram(lab_core: CoreCase, process: Process) -> None:
    space = process.guest_memory
    mmio = [r for r in lab_core.gdb["flat_view"] if not r["host"]]
    assert mmio
    for part in mmio:
        with pytest.raises(MemoryFault) as caught:
            space.host_address(at(part["start"]))
        assert caught.value.gap.kind is GapKind.NOT_RAM


@pytest.mark.lab
def test_a_devices_own_address_space(lab_core: CoreCase, process: Process) -> None:
    """Without an IOMMU a device sees the same RAM as the vCPUs."""
    if not lab_core.gdb["devices"]:
        pytest.skip("no devices in this core")
    for device in lab_core.gdb["devices"]:
        if device.get("iommu"):
            continue
        space = memory.dma_space(process.views, device["fields"]["dma_as"])
        assert [(r.address, r.size) for r in space.ranges()] == [
            (r.address, r.size) for r in process.guest_memory.ranges()
        ]


@pytest.mark.lab
def test_the_flat_view_is_read_in_a_millisecond(process: Process) -> None:
    memory.guest_memory(process.views)
    times = []
    for _ in range(20):
        before = time.perf_counter()
        memory.guest_memory(process.views)
        times.append(time.perf_counter() - before)
    assert min(times) < 0.001  # the least of them: the others share the machine
