"""The core that a user-mode emulator writes of a QEMU for arm64: it names no files at all.

It is of the process that gdb took a core of before, and nothing had moved since: what is in flight,
the rings and the stacks of coroutines are the same. Of libraries only their data is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.lab.arm64_case import RAW
from tests.lab.cases import CoreCase, iter_cores
from tests.lab.compare import number
from vringcore.elfcore.notes import NT_FILE
from vringcore.errors import ExecutableMismatchError
from vringcore.layout.store import LayoutStore
from vringcore.options import Options
from vringcore.qemu.process import open_process
from vringcore.slim.slim import slim_core

COMMAND = "python -m tests.lab make 10.0-arm64 stuck"
_CORES = [core for core in iter_cores() if core.case.for_arm64]

pytestmark = [pytest.mark.lab, pytest.mark.skipif(not _CORES, reason=f"no case: `{COMMAND}`")]


@pytest.fixture(scope="module", params=_CORES, ids=lambda core: core.name)
def full(request: pytest.FixtureRequest) -> CoreCase:
    core: CoreCase = request.param
    return core


def opened(full: CoreCase, **options: Any) -> vringcore.Core:
    chosen = {"executable": str(full.case.executable), **options}
    path = full.case.directory / RAW
    return vringcore.Core(open_process(str(path), Options(**chosen), LayoutStore()))


@pytest.fixture(scope="module")
def raw(full: CoreCase) -> Iterator[Any]:
    """Give it untyped: a test fails by itself where a part is absent."""
    with opened(full, sysroot=full.case.manifest["sysroot"]) as core:
        yield core


def test_modules_are_found_by_the_linkers_list(full: CoreCase, raw: Any) -> None:
    core = raw.process.core
    assert core.kind == "unknown"
    assert all(note.type != NT_FILE for note in core.raw_notes)
    with full.open() as other:
        mapped = other.process.core.modules
        ours = {module.build_id: module.load_bias for module in core.modules}
        theirs = {module.build_id: module.load_bias for module in mapped if module.build_id}
    assert ours == theirs
    assert len(ours) > 5
    assert core.executable is not None
    assert core.executable.build_id == full.case.manifest["build_id"]


def test_queues_are_gdbs(full: CoreCase, raw: Any) -> None:
    checked = 0
    for device, theirs in zip(raw.virtio_devices(), full.gdb["devices"], strict=True):
        assert int(device.address) == theirs["address"]
        for queue, truth in zip(device.queues, theirs["queues"], strict=True):
            fields = truth["fields"]
            assert int(queue.address) == truth["address"]
            for name in ("last_avail_idx", "shadow_avail_idx", "used_idx", "inuse", "vector"):
                assert number(queue.fields[name]) == fields[name]
                checked += 1
            held = {request.head for request in queue.in_flight}
            assert len(held) == fields["inuse"]
    assert checked >= 5


def test_requests_are_the_servers(full: CoreCase, raw: Any) -> None:
    servers = full.case.servers
    held = {(each["type"], each["offset"]) for server in servers for each in server["held"]}
    found = {
        (request.request.operation, request.request.sector * 512)
        for device in raw.virtio_devices()
        for queue in device.queues
        for request in queue.in_flight
    }
    assert found == held


def test_stacks_end_where_they_begin(full: CoreCase, raw: Any) -> None:
    report = raw.report({"threads", "coroutines"})
    assert len(report.threads) == full.case.manifest.get("lwp_count", len(full.gdb["threads"]))
    for thread in report.threads:
        assert thread.frames_end == "outermost"
        assert {frame.how for frame in thread.frames} <= {"registers", "cfi", "tail-call"}
    with full.open() as other:
        theirs = other.report({"coroutines"}).coroutines
        assert isinstance(theirs, tuple)
    assert [(each.address, places(each)) for each in report.coroutines] == [
        (each.address, places(each)) for each in theirs
    ]
    assert len(theirs) > 1


def places(coroutine: Any) -> list[tuple[int, str | None]]:
    return [(int(frame.pc), frame.function) for frame in coroutine.frames if not frame.inlined][:-1]


def test_its_small_core_is_read_alone(full: CoreCase, tmp_path: Path) -> None:
    """It names the files that were found, and has what tells their builds."""
    root, small = full.case.manifest["sysroot"], tmp_path / "small.zst"
    options = Options(executable=str(full.case.executable), sysroot=root)
    slim_core(str(full.case.directory / RAW), str(small), options=options, store=LayoutStore())
    alone = Options(sysroot=str(tmp_path))
    with vringcore.Core(open_process(str(small), alone, LayoutStore())) as core:
        found, builds = answers(core), {m.build_id for m in core.process.core.modules}
    with opened(full, sysroot=root) as core:
        assert found == answers(core)
        assert builds == {m.build_id for m in core.process.core.modules}
    assert len(builds) > 5


def answers(core: Any) -> tuple[Any, ...]:
    report = core.report({"threads", "coroutines"})
    return core.virtio_devices(), report.threads, report.coroutines


def test_another_build_is_refused(full: CoreCase) -> None:
    others = [
        core.case.executable
        for core in iter_cores()
        if core.case.executable != full.case.executable and core.case.executable.exists()
    ]
    if not others:
        pytest.skip("no other QEMU: `python -m tests.lab make 7.2 stuck`")
    with pytest.raises(ExecutableMismatchError, match="dynamic section"):
        opened(full, executable=str(others[0]))
