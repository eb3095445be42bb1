"""Two cores of one VM: what moved, and what did not.

The second core is the first with its counters moved on as the guest and QEMU do it, so that the
truth is what the test did.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jsonschema
import msgspec
import pytest

import vringcore
from tests.cli.command import ROOT
from tests.cli.command import vringcore as command
from tests.cores import lab_cores
from tests.lab.cases import CoreCase
from tests.qemu.test_ram_files import write_ram
from tests.scan import cores
from tests.scan.fleet import template
from vringcore.elfcore.notes import AT_RANDOM
from vringcore.errors import UsageError
from vringcore.model.compare import CompareDocument
from vringcore.model.values import Absent, encode
from vringcore.ring_math import advance
from vringcore.scan.changes import Changes
from vringcore.scan.compare import compare
from vringcore.scan.pair import SECOND_NS, Elapsed


def compared(first: Path, second: Path) -> CompareDocument:
    with (
        vringcore.open_core(str(first), sysroot=os.devnull) as one,
        vringcore.open_core(str(second), sysroot=os.devnull) as two,
    ):
        document = compare(one, two)
    schema = json.loads((ROOT / "schemas" / "compare-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(encode(document)))
    return document


def moved(name: str, path: Path, rounds: int) -> Path:
    """Write a core whose rings all went on by whole rounds: the same requests seem in flight."""
    source = template(cores.dump(name))
    data = bytearray(source.core.data)
    for offset, size in source.counters:
        old = int.from_bytes(data[offset : offset + 2], "little")
        data[offset : offset + 2] = advance(old, rounds * size).to_bytes(2, "little")
    path.write_bytes(data)
    return path


def test_nothing_moved_and_requests_last() -> None:
    document = compared(cores.dump("10.0/stuck"), cores.dump("10.0/stuck"))
    assert document.state == "stuck"
    assert [(q.state, len(q.lasting), q.gone, q.new) for q in document.queues] == [
        ("stuck", 2, 0, 0)
    ] * 4
    assert {move.steps for queue in document.queues for move in queue.indices} == {0}
    assert {thread.state for thread in document.threads} == {"same"}


@pytest.mark.parametrize("rounds", [1, 3, 255])
def test_others_complete_while_some_last(tmp_path: Path, rounds: int) -> None:
    """Across the wrap at 2^16, too: a ring of 256 that went on by 255 rounds."""
    document = compared(cores.dump("10.0/stuck"), moved("10.0/stuck", tmp_path / "two", rounds))
    assert document.state == "slow"
    steps = {move.steps for queue in document.queues for move in queue.indices}
    with vringcore.open_core(str(cores.dump("10.0/stuck")), sysroot=os.devnull) as core:
        sizes = {queue.size for device in core.virtio_devices() for queue in device.queues or ()}
    assert steps == {advance(0, rounds * int(size)) for size in sizes if isinstance(size, int)}


def test_an_idle_vm() -> None:
    assert compared(cores.dump("10.0/idle"), cores.dump("10.0/idle")).state == "idle"


def test_cores_of_two_vms_are_refused() -> None:
    with pytest.raises(UsageError, match="not of one process"):
        compared(cores.dump("10.0/stuck"), cores.dump("7.2/stuck"))
    with pytest.raises(UsageError, match="not of one process"):
        compared(cores.dump("10.0/stuck"), cores.dump("10.0/idle"))


def test_the_verb(tmp_path: Path) -> None:
    path = cores.dump("10.0/stuck")
    later = shutil.copy(path, tmp_path / "later.zst")
    run = command("compare", str(path), str(later), "--sysroot", "/nowhere", "--no-cache")
    assert (run.returncode, run.stderr) == (5, "")
    assert "Stuck: no index moved on 4 queues of disk0, 8 requests in flight in both" in run.stdout


def test_one_core_given_twice_is_no_comparison(tmp_path: Path) -> None:
    path = str(cores.dump("10.0/stuck"))
    (tmp_path / "link").symlink_to(path)
    for second in (path, str(tmp_path / "link")):
        run = command("compare", path, second)
        assert (run.returncode, run.stdout) == (2, "")
        assert "one core is given twice" in run.stderr


PAIRS = lab_cores(
    lambda core: core.kind == "gcore" and core.name.split("/")[1] in ("stuck", "stuck-migration")
)
"""Of their cases there is a second core, that the kernel wrote as the process was killed."""
IN_FILE = lab_cores(lambda core: core.kind == "gcore" and core.case.scenario == "shared-ram")


def both(case: CoreCase, **options: object) -> CompareDocument:
    second = case.path.with_name("core.kernel")
    if not second.exists():
        made = f"{case.case.version} {case.case.scenario}"
        pytest.skip(f"no core of the kernel's: `python -m tests.lab make {made}`")
    how = {"executable": str(case.case.executable)}
    with (
        vringcore.open_core(str(case.path), **how, **options) as one,
        vringcore.open_core(str(second), **how) as two,
    ):
        return compare(one, two)


@pytest.mark.lab
@pytest.mark.parametrize("case", PAIRS)
def test_what_gdb_and_the_kernel_wrote_of_one_process(case: CoreCase) -> None:
    document = both(case)
    assert document.state == "stuck"
    assert document.elapsed_ns is None
    for queue, held in zip(document.queues, in_use(case), strict=True):
        assert {move.steps for move in queue.indices} == {0}
        assert (len(queue.lasting), queue.gone, queue.new) == (held, 0, 0)
        assert held > 0


def in_use(case: CoreCase) -> list[int]:
    """Return what gdb reads of each queue in the second core."""
    truth = json.loads(case.path.with_name("gdb.kernel.json").read_text(encoding="utf-8"))
    (device,) = truth["devices"]
    return [queue["fields"]["inuse"] for queue in device["queues"]]


@pytest.mark.lab
@pytest.mark.parametrize("case", IN_FILE)
def test_ram_that_one_core_lacks(case: CoreCase, tmp_path: Path) -> None:
    """QEMU's indices tell without it; a copy of that time tells of the guest's."""
    without = both(case)
    assert without.summary.startswith("Stuck: no index that is known moved")
    guests = {"avail.idx", "used.idx"}
    for queue in without.queues:
        assert {m.name for m in queue.indices if isinstance(m.steps, Absent)} == guests
    write_ram(case, tmp_path / "ram")
    for queue in both(case, ram_files=(str(tmp_path / "ram"),)).queues:
        assert {move.name: move.steps for move in queue.indices}.keys() > guests
        assert {move.steps for move in queue.indices} == {0}


@pytest.mark.lab
@pytest.mark.parametrize("case", IN_FILE)
def test_ram_of_both_from_one_file_tells_nothing_of_the_guest(
    case: CoreCase, tmp_path: Path
) -> None:
    write_ram(case, tmp_path / "ram")
    how = {"executable": str(case.case.executable), "ram_files": (str(tmp_path / "ram"),)}
    with (
        vringcore.open_core(str(case.path), **how) as one,
        vringcore.open_core(str(case.path), **how) as two,
    ):
        document = compare(one, two)
    assert document.state == "stuck"
    for queue in document.queues:
        assert {move.name for move in queue.indices} == {"last_avail_idx", "used_idx"}
    assert "the guest's indices are not compared" in [limit.what for limit in document.limits]


def test_a_request_is_told_from_the_next_in_its_place() -> None:
    """A busy QEMU uses head and structure again at once: place and beginning tell them apart."""
    with vringcore.open_core(str(cores.dump("10.0/stuck")), sysroot=os.devnull) as core:
        before = core.why()
    change = msgspec.structs.replace
    for other in ({"sector": 7}, {"started_ns": 7}, {"operation": "flush"}):
        devices = []
        for device in before.devices or ():
            queues = []
            for queue in device.queues or ():
                requests = [
                    change(each, request=change(each.request, **other))
                    for each in queue.in_flight or ()
                    if each.request
                ]
                queues.append(change(queue, in_flight=tuple(requests)))
            devices.append(change(device, queues=tuple(queues)))
        after = change(before, devices=tuple(devices))
        changes = list(Changes(before, after, Elapsed(5 * SECOND_NS, "clock"), "").queues())
        assert [(q.gone, q.new, q.lasting, q.state) for q in changes] == [(2, 2, (), "idle")] * 4


@pytest.mark.parametrize(("seconds", "state"), [(0.2, "unknown"), (2.0, "stuck")])
def test_too_little_time_to_call_it_stuck(seconds: float, state: str) -> None:
    with vringcore.open_core(str(cores.dump("10.0/stuck")), sysroot=os.devnull) as core:
        report = core.why()
    between = Elapsed(int(seconds * SECOND_NS), "clock")
    assert {q.state for q in Changes(report, report, between, "").queues()} == {state}


def test_another_start_of_the_program_is_refused() -> None:
    """In a container the number is the same, and the name anyway."""
    path = str(cores.dump("10.0/stuck"))
    with (
        vringcore.open_core(path, sysroot=os.devnull) as one,
        vringcore.open_core(path, sysroot=os.devnull) as two,
    ):
        two.process.core.auxv[AT_RANDOM] += 0x1000
        with pytest.raises(UsageError, match="another start of the program"):
            compare(one, two)
