"""Regions, vCPUs and exports of every core, beside what the monitor said and what can be built."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cores import cores, dumps, was_asked
from tests.qemu.support import Image
from vringcore.addresses import HostAddress
from vringcore.errors import MemoryFault, UsageError
from vringcore.memory.gaps import GapKind
from vringcore.memory.space import Range
from vringcore.model.memory import MemoryPiece
from vringcore.model.values import Absent, Address
from vringcore.qemu import vcpus as vcpus_module
from vringcore.qemu.guest import export_guest, read_guest
from vringcore.qemu.guest_structs import VCpuState
from vringcore.qemu.guestmap import GuestMap
from vringcore.qemu.thread_structs import CPUS
from vringcore.qemu.vcpus import vcpu, vcpus
from vringcore.qemu.vmcore import present, write_vmcore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.lab.cases import CoreCase
    from vringcore.qemu.process import Process

_ROW = re.compile(
    r"^ +([0-9a-f]+)-([0-9a-f]+) \(prio -?\d+, (.+?)\): (.+?)(?: @([0-9a-f]+))?\s*$", re.MULTILINE
)
_MONITORS = {"mmio": "i/o", "rom-device": "romd", "ram-device": "ramd", "iommu": "i/o"}


@pytest.mark.parametrize("core", cores(was_asked))
def test_regions_are_those_of_the_monitor(core: CoreCase) -> None:
    process = core.open_process()
    try:
        regions = GuestMap(process).regions()
    finally:
        process.close()
    tree = core.case.qmp_before["info mtree -f"]
    view = next(v for v in tree.split("FlatView #") if ' AS "memory",' in v)
    said = _ROW.findall(view)
    assert [(f"{r.start:016x}", f"{r.end - 1:016x}") for r in regions] == [r[:2] for r in said]
    assert [f"{int(r.offset):016x}" for r in regions] == [row[4] or "0" * 16 for row in said]
    for region, (_, _, kind, name, _) in zip(regions, said, strict=True):
        # A small core has neither the names nor all of what tells kinds apart.
        if core.whole or not isinstance(region.kind, Absent):
            assert _MONITORS.get(str(region.kind), region.kind) == kind
        if core.whole or not isinstance(region.name, Absent):
            assert region.name == name
        assert (region.host is None) == (kind == "i/o")
        if core.whole and region.host is not None and core.case.scenario != "no-guest-ram":
            left_out = core.filtered and region.block == "ram0"
            assert region.in_core == (0 if left_out else region.size)


def test_every_vcpu_is_there(opened: Process, core: CoreCase) -> None:
    found, error = vcpus(opened)
    assert error is None
    assert [cpu.index for cpu in found] == list(range(len(found)))
    said = (core.case.qmp_before or {}).get("query-cpus-fast")
    if said is not None:
        assert len(found) == len(said)
    with pytest.raises(UsageError, match=f"no vCPU {len(found)}"):
        vcpu(opened, len(found))


def test_registers_of_tcg_are_current_and_those_of_kvm_are_not_always(
    opened: Process, core: CoreCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = vcpus(opened)
    if not core.whole:
        # Of a few the first vCPU was printed when they were made, and is there.
        lost = [cpu.x86 for cpu in found if isinstance(cpu.x86, Absent)]
        assert len(lost) >= len(found) - 1
        assert {absent.reason for absent in lost} <= {"omitted"}
        return
    assert found
    assert all(cpu.stale is False for cpu in found)
    views = opened.views
    monkeypatch.setattr(vcpus_module, "accelerator", lambda *_: "kvm")
    head = next(filter(None, (views.find_address_of(n, u) for n, u in CPUS.items())))
    dirty = [each.vcpu_dirty for each in views.elements(head, VCpuState, "node")]
    assert [cpu.stale for cpu in vcpus(opened)[0]] == [not each for each in dirty]
    monkeypatch.setattr(vcpus_module, "accelerator", lambda *_: Absent("not-dumped"))
    assert all(cpu.stale is None for cpu in vcpus(opened)[0])


@pytest.mark.parametrize("core", dumps())
def test_a_small_core_says_what_it_lacks(core: CoreCase) -> None:
    process = core.open_process()
    try:
        with pytest.raises(UsageError, match="neither the guest's memory nor its registers"):
            export_guest(process, io.BytesIO(), "out", limits=[])
        found = read_guest(process, 0x8000, 16, cpu=None, limits=[])
        assert found.pieces == (MemoryPiece(Address(0x8000), 16, found.pieces[0].data),)
        assert isinstance(found.pieces[0].data, Absent)
        assert found.pieces[0].data.reason in ("omitted", "not-dumped")
    finally:
        process.close()


class Parts(Image):
    """Memory of which a range may have a tail that is not there."""

    def __init__(self, parts: Sequence[tuple[int, int, int]]) -> None:
        super().__init__({at: bytes([at % 251]) * there for at, _, there in parts if there})
        self._parts = parts

    def ranges(self) -> list[Range]:
        return [Range(at, size, there) for at, size, there in self._parts]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 9)), max_size=6))
def test_what_is_there_and_what_is_missing_are_the_whole(
    rows: list[tuple[int, int, int]],
) -> None:
    parts: list[tuple[int, int, int]] = []
    place = 100
    for hole, size, there in rows:
        place += hole
        parts.append((place, size, min(size, there)))
        place += size
    space = Parts(parts)
    found, missing = present(space, [(1000, 100, 60)])
    held = {1000 + at - 100 + n for at, _, count in parts for n in range(count)}
    held &= set(range(1000, 1060))
    assert sorted(held) == [start + n for start, _, size in found for n in range(size)]
    lost = [gap.address + n for gap in missing for n in range(gap.size)]
    assert sorted([*held, *lost]) == list(range(1000, 1060))
    assert all(a + c < b for (a, _, c), (b, _, _) in pairwise(found))


def test_memory_that_goes_away_is_an_error() -> None:
    space = Image({0x1000: b"x" * 16}, GapKind.TRUNCATED)
    with pytest.raises(MemoryFault):
        write_vmcore(io.BytesIO(), space, [(0, HostAddress(0x1000), 32)], b"")
