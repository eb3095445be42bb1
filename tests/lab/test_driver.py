"""The guest's own driver beside QEMU, rings and servers' records; BTF beside DWARF, by gdb."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.cores import lab_cores
from tests.debuginfo.oracles import GDB, ask_gdb
from tests.debuginfo.shapes import shape_of
from tests.lab.cases import CoreCase
from tests.lab.guest import NEWER, STOCK, kernel
from tests.lab.guest_types import types_of, vmlinux
from vringcore.debuginfo.btf import Btf, excerpt, read_btf
from vringcore.errors import LayoutError
from vringcore.layout.provider import Layouts
from vringcore.model.driver import DriverDocument, DriverQueue, DriverRequest
from vringcore.model.queues import Counts, Queue, SplitGuest
from vringcore.model.requests import BlockRequest
from vringcore.model.values import Absent
from vringcore.qemu.guest import export_guest

pytestmark = pytest.mark.lab

if vmlinux() is None:
    pytest.skip("no vmlinux of the guest: install linux-image-…-dbg", allow_module_level=True)

HELD = {
    "stuck", "stuck-migration", "stuck-plain", "stuck-legacy", "stuck-packed",
    "stuck-packed-direct", "stuck-scsi", "stuck-iommu", "stuck-iommu-packed",
    "stuck-iommu-scalable", "out-of-order", "stuck-throttle",
}  # fmt: skip
"""Scenarios with stock kernels in which all of the driver's requests are inside QEMU."""

BY_VHOST = {"stuck-vhost-user", "vhost-user-gone", "stuck-vhost-inflight", "vhost-gone-inflight"}
OF_NEWER = {"stuck-virtio-iommu", "stuck-in-order", "stuck-in-order-packed", "in-order-held"}
"""Scenarios whose guests run another kernel."""

SECTOR = 512
SAMPLE = 400


def named(*scenarios: str) -> list[Any]:
    return lab_cores(lambda core: core.kind == "gcore" and core.case.scenario in scenarios)


def on_newer(*scenarios: str) -> list[Any]:
    """Return those whose guests run the kernel of the newer suite."""
    return lab_cores(
        lambda core: (
            core.kind == "gcore" and core.case.scenario in scenarios and kernel(NEWER).exists()
        )
    )


@pytest.fixture(scope="session")
def types(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return types_of(STOCK, tmp_path_factory.mktemp("types"))


@pytest.fixture(scope="session")
def newer_types(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return types_of(NEWER, tmp_path_factory.mktemp("newer-types"))


def asked(core: vringcore.Core, types: list[str]) -> DriverDocument:
    return core.driver(types)


def requests_of(queue: DriverQueue) -> tuple[DriverRequest, ...]:
    assert not isinstance(queue.requests, Absent), queue.requests
    return queue.requests


def beside(core: vringcore.Core, document: DriverDocument) -> Iterator[tuple[DriverQueue, Queue]]:
    queues = {(d.index, q.index): q for d in core.virtio_devices() for q in d.queues or ()}
    for queue in document.queues:
        yield queue, queues[queue.device, queue.queue]


@pytest.mark.parametrize("core_case", named(*HELD))
def test_what_the_driver_waits_for_is_what_qemu_holds(
    core_case: CoreCase, types: list[str]
) -> None:
    compare_with_qemu(core_case, types)


@pytest.mark.parametrize("core_case", on_newer(*OF_NEWER))
def test_of_a_newer_kernel_too(core_case: CoreCase, newer_types: list[str]) -> None:
    compare_with_qemu(core_case, newer_types)


@pytest.mark.parametrize("core_case", on_newer("in-order-held"))
def test_what_is_done_and_held_back_is_not_lost(
    core_case: CoreCase, newer_types: list[str]
) -> None:
    with core_case.open() as core:
        [queue] = core.driver(newer_types).queues
        places = Counter(each.place for each in requests_of(queue))
        [model] = [q for d in core.virtio_devices() for q in d.queues or ()]
    assert isinstance(model.in_order, tuple)
    done = sum(each.filled for each in model.in_order)
    assert done > 0
    assert places == {"in-qemu": len(model.in_order) - done, "held-in-order": done}


def compare_with_qemu(core_case: CoreCase, types: list[str]) -> None:
    with core_case.open() as core:
        document = asked(core, types)
        assert not document.limits
        waiting = 0
        for driver, queue in beside(core, document):
            held = {each.head: each.request for each in queue.in_flight or ()}
            inside = {each.head: each for each in requests_of(driver) if each.place == "in-qemu"}
            assert set(inside) == set(held)
            # What QEMU has not got may be the empty buffers of the queue for events.
            others = {each.place for each in requests_of(driver)}
            others -= {"in-qemu", "held-in-order"}
            assert others <= ({"unseen"} if queue.role == "event" else set())
            assert not driver.broken
            assert driver.unread == 0
            for head, each in inside.items():
                request = held[head]
                assert each.state == "in-flight"
                if isinstance(request, BlockRequest):
                    assert (each.operation, each.sector, each.length) == (
                        request.operation, request.sector, request.length,
                    )  # fmt: skip
                waiting += 1
        assert waiting


@pytest.mark.parametrize("core_case", named("stuck", "stuck-packed", "stuck-scsi", "stuck-iommu"))
def test_what_the_driver_waits_for_is_what_the_server_held(
    core_case: CoreCase, types: list[str]
) -> None:
    held = Counter(
        (each["type"], each["offset"] // SECTOR, each["length"])
        for server in core_case.case.servers
        for each in server["held"]
    )
    with core_case.open() as core:
        mine = Counter(
            (each.operation, each.sector, each.length)
            for queue in asked(core, types).queues
            for each in requests_of(queue)
            if each.operation is not None
        )
    assert mine == held
    assert len(held) > 1


@pytest.mark.parametrize(
    "core_case",
    lab_cores(
        lambda core: (
            core.kind == "gcore"
            and core.case.scenario in HELD | {"idle", "busy", "paused", "nine-devices", "microvm"}
        )
    ),
)
def test_used_event_is_last_used_idx_while_interrupts_are_on(
    core_case: CoreCase, types: list[str]
) -> None:
    """Of disks: what the rules of past_used_event rest on."""
    seen = 0
    with core_case.open() as core:
        kinds = {each.index: each.kind for each in core.virtio_devices()}
        for driver, queue in beside(core, asked(core, types)):
            assert 0 <= driver.num_free <= (queue.size if isinstance(queue.size, int) else 0)
            if not isinstance(queue.guest, SplitGuest):
                continue
            assert driver.used_event == queue.guest.used_event
            if isinstance(driver.used_event, int) and isinstance(queue.counts, Counts):
                waits = driver.interrupts and not driver.event_triggered
                if kinds[driver.device] in ("virtio-blk", "virtio-scsi") and waits:
                    assert driver.used_event == driver.last_used_idx
                    assert queue.counts.past_used_event == driver.unread
                    seen += 1
    if core_case.case.scenario in ("stuck", "idle"):
        assert seen > (0 if core_case.case.for_arm64 else 1)


@pytest.mark.parametrize("core_case", named(*BY_VHOST))
def test_of_a_ring_that_vhost_runs(core_case: CoreCase, types: list[str]) -> None:
    with core_case.open() as core:
        document = asked(core, types)
        assert document.queues
        for driver, queue in beside(core, document):
            assert isinstance(driver.last_avail_idx, Absent)
            assert {each.place for each in requests_of(driver)} <= {"with-vhost", "unseen"}
            assert isinstance(queue.counts, Counts)
            assert len(requests_of(driver)) == queue.counts.outstanding
            record = queue.inflight_record
            if record and not isinstance(record, Absent) and record.version:
                theirs = {e.head for e in requests_of(driver) if e.place == "with-vhost"}
                assert theirs == set(record.heads)


@pytest.mark.parametrize("core_case", named("broken"))
def test_a_broken_device_has_taken_and_not_seen(core_case: CoreCase, types: list[str]) -> None:
    with core_case.open() as core:
        places = {each.place for q in asked(core, types).queues for each in requests_of(q)}
        assert places == {"nowhere", "unseen"}


@pytest.mark.parametrize("core_case", named("idle"))
def test_a_driver_that_waits_for_nothing(core_case: CoreCase, types: list[str]) -> None:
    with core_case.open() as core:
        for driver, queue in beside(core, asked(core, types)):
            assert queue.role == "event" or not requests_of(driver)
            assert driver.avail_idx == driver.last_used_idx or queue.role == "event"


@pytest.mark.parametrize("core_case", named(*OF_NEWER))
def test_types_of_another_kernel_give_no_numbers(core_case: CoreCase, types: list[str]) -> None:
    with core_case.open() as core:
        document = asked(core, types)
        assert document.queues == ()
        assert document.limits
        assert all("this guest's kernel" in limit.why for limit in document.limits)


@pytest.mark.parametrize("core_case", named("no-guest-ram"))
def test_without_the_guests_memory_it_says_so(core_case: CoreCase, types: list[str]) -> None:
    with core_case.open() as core:
        document = asked(core, types)
        assert document.queues == ()
        assert all("no guest memory" in limit.why for limit in document.limits)


@pytest.mark.parametrize("core_case", named("stuck")[:1])
def test_types_without_virtio_are_refused(core_case: CoreCase, types: list[str]) -> None:
    with core_case.open() as core:
        with pytest.raises(LayoutError, match="vring_virtqueue"):
            asked(core, types[:1])
        with pytest.raises(LayoutError) as caught:
            asked(core, types[1:2])
        assert "kernel" in caught.value.hint


@pytest.mark.parametrize("core_case", named("stuck", "out-of-order"))
def test_requests_are_those_that_drgn_reads(
    core_case: CoreCase, types: list[str], tmp_path: Path
) -> None:
    """drgn finds the guest's memory by VMCOREINFO and its own walk of the page tables."""
    drgn = pytest.importorskip("drgn")
    path = tmp_path / "vmcore"
    with core_case.open() as core:
        queues = asked(core, types).queues
        with path.open("wb") as out:
            export_guest(core.process, out, str(path), limits=[], find_note=True)
    program = drgn.Program()
    program.set_core_dump(path)
    program.load_debug_info([types[0]])
    size = drgn.sizeof(program.type("struct request"))
    found = 0
    for each in (each for queue in queues for each in requests_of(queue)):
        request = drgn.Object(program, "struct request", address=each.token - size)
        assert (each.tag, each.sector, each.length, each.started_ns) == (
            request.tag.value_(), request.member_("__sector").value_(),
            request.member_("__data_len").value_(), request.start_time_ns.value_(),
        )  # fmt: skip
        found += 1
    assert found > 1


def only_one(names: Iterable[str]) -> list[str]:
    """Return the names that one type has: of others gdb may mean another than we."""
    return sorted(name for name, count in Counter(names).items() if count == 1)


@pytest.mark.skipif(GDB is None, reason="no gdb")
def test_btf_gives_the_types_that_gdb_gives(tmp_path: Path, types: list[str]) -> None:
    """vmlinux has DWARF beside BTF."""
    read = read_btf(types[0])
    blob = Btf(read.data, read.path)
    keys = [
        f"{kind} {name}"
        for kind, count in (("struct", SAMPLE), ("union", SAMPLE // 8), ("enum", SAMPLE // 8))
        for name in random.Random(5).sample(only_one(blob.names(kind)), count)
    ]
    keys += ["struct request", "struct task_struct", "struct sk_buff", "struct page"]
    theirs = ask_gdb(Path(types[0]), tmp_path, types=keys)["types"]
    layouts = Layouts(excerpt([blob], keys))
    differing = [key for key in keys if shape_of(layouts, layouts.definition(key)) != theirs[key]]
    assert differing == []
    assert len(keys) > SAMPLE
