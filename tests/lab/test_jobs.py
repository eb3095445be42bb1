"""Jobs, and a coroutine that runs, in QEMUs made for it, beside what QMP and gdb say."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.lab.block_truth import block_truth
from tests.lab.capture import gcore
from tests.lab.processes import Children
from tests.lab.qmp import Monitor
from tests.lab.runner import SYSTEM_EMULATOR, executable
from vringcore.layout.store import LayoutStore
from vringcore.model.block import BlockState
from vringcore.model.report import Report

pytestmark = pytest.mark.lab

VERSIONS = ["7.2", "10.0"]

ARGUMENTS = (
    *("-S", "-machine", "none", "-nodefaults", "-display", "none"),
    *("-blockdev", "driver=null-co,node-name=source,size=1073741824,read-zeroes=off"),
    *("-blockdev", "driver=null-co,node-name=target,size=1073741824"),
    *("-blockdev", "driver=null-co,node-name=other,size=1073741824"),
)

SLOW = 1
"""Bytes a second of a job: it copies once, then sleeps."""


@pytest.fixture(params=VERSIONS)
def program(request: pytest.FixtureRequest) -> Path:
    path = executable(request.param, SYSTEM_EMULATOR)
    if not path.exists():
        pytest.skip(f"no QEMU: run `python -m tests.lab make {request.param} idle`")
    return path


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vringcore-jobs-") as directory:
        yield Path(directory)


@pytest.fixture
def qemu(program: Path, scratch: Path) -> Iterator[tuple[int, Monitor]]:
    place = scratch / "qmp"
    with Children() as children:
        words = [str(program), *ARGUMENTS, "-qmp", f"unix:{place},server=on,wait=off"]
        child = children.start(words, scratch / "qemu.log")
        with closing(Monitor(place)) as monitor:
            yield child.pid, monitor


def report_of(core: Path, program: Path, parts: set[str]) -> Report:
    with vringcore.open_core(str(core), executable=str(program), store=LayoutStore()) as opened:
        return opened.report(parts)


def test_jobs_are_qemus_own(program: Path, qemu: tuple[int, Monitor], scratch: Path) -> None:
    pid, monitor = qemu
    for name, target in (("copy", "target"), ("held", "other")):
        settings: dict[str, Any] = {"job-id": name, "device": "source", "target": target}
        monitor.execute("blockdev-backup", sync="full", speed=SLOW, **settings)
    monitor.execute("job-pause", id="held")
    time.sleep(1)
    said = {job["id"]: job for job in monitor.execute("query-jobs")}
    core = scratch / "core"
    gcore(pid, core)
    block = report_of(core, program, {"block"}).block
    assert isinstance(block, BlockState)
    assert isinstance(block.jobs, tuple)
    ours = {str(job.id): job for job in block.jobs}
    assert {name: (job.kind, job.status) for name, job in ours.items()} == {
        name: (job["type"], job["status"]) for name, job in said.items()
    }
    assert ours["held"].paused is True
    assert isinstance(block.nodes, tuple)
    parents = {node.name: node.parents for node in block.nodes}
    for job in ours.values():
        assert isinstance(job.nodes, tuple)
        assert {"copy": "target", "held": "other"}[str(job.id)] in job.nodes
        for name in job.nodes:  # a filter above the source, and the target
            owners = parents[name]
            assert isinstance(owners, tuple)
            assert f"job {job.id}" in owners
    for expected in block_truth(program, core, scratch)["jobs"]:
        job = ours[expected["id"]]
        for key in ("address", "pause_count", "paused", "busy", "cancelled", "coroutine"):
            assert getattr(job, key) == expected[key]
        assert (job.timer_expires_ns or -1) == expected["expires"]


def test_a_jobs_coroutine_sleeps_until_its_timer(
    program: Path, qemu: tuple[int, Monitor], scratch: Path
) -> None:
    pid, monitor = qemu
    settings: dict[str, Any] = {"job-id": "copy", "device": "source", "target": "target"}
    monitor.execute("blockdev-backup", sync="full", speed=SLOW, **settings)
    time.sleep(1)
    core = scratch / "core"
    gcore(pid, core)
    report = report_of(core, program, {"block", "coroutines"})
    assert isinstance(report.block, BlockState)
    assert isinstance(report.block.jobs, tuple)
    assert isinstance(report.coroutines, tuple)
    [job] = report.block.jobs
    [coroutine] = [each for each in report.coroutines if each.address == job.coroutine]
    assert coroutine.entry == "job_co_entry"
    assert coroutine.found_by[0] == "job"
    sleepers = [each for each in report.coroutines if "timer" in each.found_by]
    assert sleepers
    assert all(each.waits_in[-1].place == "timer" for each in sleepers)


def test_a_coroutine_that_runs_is_in_its_thread(
    program: Path, qemu: tuple[int, Monitor], scratch: Path
) -> None:
    pid, monitor = qemu
    core = scratch / "core"
    command = ["gdb", "-batch", "-nx", "-p", str(pid)]
    command += ["-x", str(Path(__file__).with_name("gdb_running.py"))]
    environment = {
        **os.environ,
        "VRINGCORE_LAB_BREAK": "null_co_preadv",
        "VRINGCORE_LAB_CORE": str(core),
    }
    debugger = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(core.with_suffix(".ready"))
        asking = threading.Thread(target=monitor.human, args=('qemu-io other "read 0 4096"',))
        asking.start()
        debugger.wait(60)
        asking.join(60)
    finally:
        debugger.kill()
    truth = json.loads(core.with_suffix(".json").read_text())
    report = report_of(core, program, {"coroutines", "threads"})
    assert isinstance(report.coroutines, tuple)
    assert isinstance(report.threads, tuple)
    by_address = {int(each.address): each for each in report.coroutines}
    innermost, *callers = [by_address[address] for address in truth["chain"]]
    assert (innermost.state, innermost.frames, innermost.lwp) == ("running", (), truth["lwp"])
    assert [each.state for each in callers] == ["calling"] * len(callers)
    assert all(each.frames_end == "outermost" and each.lwp == truth["lwp"] for each in callers)
    named = [
        int(each.caller) if isinstance(each.caller, int) else 0 for each in by_address.values()
    ]
    assert truth["leader"] not in named
    [thread] = [each for each in report.threads if each.lwp == truth["lwp"]]
    assert thread.frames[0].function == "null_co_preadv"


def wait_for(path: Path, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)
