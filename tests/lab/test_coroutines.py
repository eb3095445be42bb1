"""Coroutines of lab cores, as gdb has them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.cores import has_devices, lab_cores
from tests.lab.block_truth import is_compared, truth_of
from tests.lab.cases import CoreCase
from tests.lab.gdb_run import FRAMES, write_truth
from tests.lab.patched_core import with_coroutines
from vringcore.model.coroutines import Coroutine
from vringcore.model.report import Report
from vringcore.qemu.coroutines import saved_context

Case = tuple[CoreCase, Report, dict[int, Coroutine], Any]

_X86 = ("rsp", "rbp", "rip")
UNWOUND = {
    "qcow2-tasks",
    "stuck-native",
    "stuck-io-uring",
    "stuck-throttle",
    "stuck",
    "drain-queue",
}


@pytest.fixture(scope="module", params=lab_cores(is_compared))
def case(request: pytest.FixtureRequest) -> Case:
    core: CoreCase = request.param
    return case_of(core)


def case_of(core: CoreCase) -> Case:
    with core.open() as opened:
        report = opened.report({"coroutines"})
    assert isinstance(report.coroutines, tuple)
    assert report.limits == ()
    return core, report, {int(each.address): each for each in report.coroutines}, truth_of(core)


def test_what_gdb_reaches_is_found_and_is_the_same(case: Case) -> None:
    _, _, ours, truth = case
    for theirs in truth["coroutines"]:
        coroutine = ours[theirs["address"]]
        assert coroutine.entry == theirs["entry"]
        assert (coroutine.event_loop or 0) == theirs["event_loop"]
        assert coroutine.locks_held == theirs["locks_held"]
        assert (coroutine.caller or 0) == theirs["caller"]
        assert "search" not in coroutine.found_by


@pytest.mark.parametrize("core", lab_cores(lambda core: core.case.scenario == "stuck-9p"))
def test_coroutines_that_worker_threads_run_were_entered_by_none(core: CoreCase) -> None:
    """Those threads entered them, on stacks that are no coroutine's."""
    with core.open() as opened:
        report = opened.report({"coroutines"})
    assert isinstance(report.coroutines, tuple)
    served = {
        thread["lwp"]: frame["function"]
        for thread in core.gdb["threads"]
        for frame, outer in pairwise(thread["frames"])
        if outer["function"] == "coroutine_trampoline"
    }
    assert len(served) == 5
    running = [each for each in report.coroutines if each.state == "running"]
    assert {each.caller for each in running} == {None}
    found = {}
    for each in running:
        [work] = each.waits_in
        assert work.thread is not None
        found[work.thread.lwp] = each.entry
    assert found == served


def test_those_that_are_in_the_pools_are_counted_and_not_shown(case: Case) -> None:
    _, report, _, truth = case
    if truth["idle"] is None:
        pytest.skip("gdb does not see the threads' variables in this core")
    assert report.idle_coroutines == truth["idle"]


def test_each_is_found_by_the_lists_that_it_is_in(case: Case) -> None:
    _, _, ours, truth = case
    tracked = {r["coroutine"] for node in truth["nodes"] for r in node["tracked"]}
    slots = {
        slot["coroutine"] for node in truth["nodes"] if node["nbd"] for slot in node["nbd"]["slots"]
    }
    slots |= {node["nbd"]["connection"] for node in truth["nodes"] if node["nbd"]} - {0}
    queued = {co for backend in truth["backends"] for co in backend["queued"]}
    held = {
        co
        for group in truth["throttle_groups"]
        for member in group["members"]
        for queue in member["held"]
        for co in queue
    }
    working = {
        element["coroutine"]
        for engine in truth["engines"]
        for element in engine.get("elements", ())
    }
    for word, expected in (
        ("tracked-request", tracked),
        ("nbd", slots),
        ("drain-queue", queued),
        ("throttle", held),
        ("thread-pool", working),
        ("monitor", {truth["dispatcher"]}),
    ):
        assert {a for a, each in ours.items() if word in each.found_by} == expected - {None}, word


def test_who_waits_for_the_reply_of_an_nbd_server_waits_for_the_one_that_reads(case: Case) -> None:
    _, _, ours, truth = case
    for node in truth["nodes"]:
        if node["nbd"] is None or not node["nbd"]["holder"]:
            continue
        reader = ours[node["nbd"]["holder"]]
        assert "io-channel" in reader.found_by
        assert reader.waits_in[-1].place == "io-channel"
        for slot in node["nbd"]["slots"]:
            if slot["coroutine"] != reader.address:
                # Either in line to read, or read for once, and to be woken by who reads now.
                innermost = ours[slot["coroutine"]].waits_in[-1].place
                assert innermost == ("nbd" if slot["receiving"] else "co-mutex")


def test_every_stack_begins_with_the_trampoline(case: Case) -> None:
    _, report, _, _ = case
    for coroutine in report.coroutines or ():
        if coroutine.state == "running":
            assert coroutine.frames == ()
            continue
        names = [frame.function for frame in coroutine.frames]
        assert coroutine.frames_end == "outermost"
        # On arm64 glibc's name has one underscore less.
        assert names[-1] in ("__start_context", "__startcontext")
        assert names[-2] == "coroutine_trampoline"
        assert "qemu_coroutine_switch" not in names
        assert names[-3] == coroutine.entry


def test_saved_registers_are_gdbs(case: Case) -> None:
    core, _, _, truth = case
    with core.open() as opened:
        process = opened.process
        for theirs in truth["coroutines"]:
            if theirs["registers"] is None:
                continue
            saved = saved_context(process.views, process.core, theirs["address"])
            names = ("sp", "x29", "pc") if opened.process.core.machine == "aarch64" else _X86
            ours = {**saved.others, **dict(zip(names, (saved.sp, saved.fp, saved.pc), strict=True))}
            assert ours == theirs["registers"]


def is_unwound(core: CoreCase) -> bool:
    return has_devices(core) and core.kind == "gcore" and core.case.scenario in UNWOUND


@pytest.mark.parametrize("core", lab_cores(is_unwound))
def test_frames_are_gdbs(core: CoreCase, tmp_path: Path) -> None:
    """gdb unwinds a copy of the core whose threads have the coroutines' registers."""
    _, _, ours, truth = case_of(core)
    sleeping = truth["coroutines"]
    copy = tmp_path / "core"
    become = with_coroutines(core.path, copy, [each["registers"] for each in sleeping])
    write_truth(core.case.executable, copy, tmp_path / "frames.json", FRAMES)
    threads = {t["lwp"]: t["frames"] for t in json.loads((tmp_path / "frames.json").read_text())}
    assert become
    for lwp, number in become.items():
        theirs = threads[lwp]
        switch = next(n for n, f in enumerate(theirs) if f["kind"] == "normal")
        assert theirs[switch]["function"] == "qemu_coroutine_switch"
        # gdb does not end at __start_context, which nothing called, and finds no name for it.
        last = next(n for n, f in enumerate(theirs) if f["function"] == "coroutine_trampoline")
        theirs = theirs[switch + 1 : last + 1]
        *frames, start = ours[sleeping[number]["address"]].frames
        assert start.function in ("__start_context", "__startcontext")
        assert [(f["function"], f["file"], f["line"], f["kind"] == "inlined") for f in theirs] == [
            (f.function, f.file, f.line, f.inlined) for f in frames
        ]
        pcs = [f["pc"] for f in theirs if f["kind"] == "normal"]
        assert pcs == [int(f.pc) for f in frames if not f.inlined and f.how != "tail-call"]
