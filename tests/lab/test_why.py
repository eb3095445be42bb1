"""The verdict on each core of the lab: what it must say, and that it says nothing else.

Each scenario's summary (tests/lab/scenarios/) tells what was brought about; the truth of a verdict
is that.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import vringcore
from tests.cores import cores
from tests.lab.cases import CoreCase, unpacked
from tests.lab.live import Live, live
from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.layout.store import LayoutStore
from vringcore.model.findings import Finding, Verdict
from vringcore.model.report import Report
from vringcore.model.requests import Age

NBD = "request-not-answered-by-nbd-server"
KERNEL = "request-not-returned-by-kernel"
MIGRATION = "migration-waits-for-drain"
MONITOR = "main-loop-waits-for-bql"
VHOST = "request-not-completed-by-vhost-backend"


class Truth(NamedTuple):
    """What a scenario's verdict must be; ``others`` are findings that may be grave beside it."""

    state: str
    code: str
    says: str = ""
    others: tuple[str, ...] = ()


HEALTHY = Truth("healthy", "", "Nothing is stuck")
BY_NBD = Truth("stuck", NBD, "sent to the NBD server")
BY_KERNEL = Truth("stuck", KERNEL, "given to the kernel")

TRUTHS = {
    "idle": HEALTHY,
    "busy": HEALTHY,
    "nine-devices": HEALTHY,
    "nine-packed": HEALTHY,
    "slow-threads": HEALTHY,
    "paused": Truth("healthy", "", "stands still by order"),
    "drive-throttle": Truth("healthy", "", "held back by the I/O limit"),
    "stuck-throttle": Truth("stuck", "throttled", "held back by the I/O limit"),
    "qcow2-tasks": Truth("stuck", "throttled", "held back by the I/O limit"),
    "io-error": Truth("stuck", "vm-stopped-on-io-error", "will be tried again on `cont`"),
    "broken": Truth("stuck", "device-broken", "is broken", ("avail-index-corrupt",)),
    "bql-held": Truth("stuck", "main-loop-blocked-with-bql", "blocked in the system call"),
    "stuck": BY_NBD,
    "stuck-plain": BY_NBD,
    "stuck-legacy": BY_NBD,
    "stuck-packed": BY_NBD,
    "stuck-packed-direct": BY_NBD,
    "stuck-in-order": BY_NBD,
    "stuck-in-order-packed": BY_NBD,
    "stuck-iommu": BY_NBD,
    "stuck-iommu-packed": BY_NBD,
    "stuck-iommu-scalable": BY_NBD,
    "stuck-iommu-first-level": BY_NBD,
    "stuck-virtio-iommu": BY_NBD,
    "stuck-scsi": BY_NBD,
    "microvm": BY_NBD,
    "microvm-legacy": BY_NBD,
    "held-kinds": BY_NBD,
    "held-devices": Truth(
        "stuck", NBD, "4 requests of scsi0 (virtio-scsi)", ("request-held-by-peer",)
    ),
    "merged": BY_NBD,
    "no-guest-ram": BY_NBD,
    "one-of-two": Truth("stuck", NBD, "requests of disk0 (virtio-blk)"),
    "out-of-order": Truth("stuck", NBD, "1 of 4 requests of disk0"),
    "in-order-held": Truth("stuck", NBD, "1 request of disk0"),
    "stuck-native": BY_KERNEL,
    "stuck-io-uring": BY_KERNEL,
    "stuck-9p": Truth("stuck", KERNEL, "of share0 (virtio-9p) were given to the kernel"),
    "stuck-threads": Truth("stuck", KERNEL, "worker threads in "),
    "stuck-migration": Truth("stuck", MIGRATION, "sent to the NBD server", (NBD, MONITOR)),
    "scsi-migration": Truth("stuck", MIGRATION, "sent to the NBD server", (NBD, MONITOR)),
    "fork-stuck": Truth("stuck", MIGRATION, "drain of disk1", (NBD, MONITOR)),
    "native-migration": Truth("stuck", MIGRATION, "(linux-aio)", (KERNEL, MONITOR)),
    "io-uring-migration": Truth("stuck", MIGRATION, "(io_uring)", (KERNEL, MONITOR)),
    "threads-migration": Truth("stuck", MIGRATION, "worker threads in ", (KERNEL, MONITOR)),
    "drain-queue": Truth(
        "stuck",
        "drain-waits-for-requests",
        "for a transaction of the monitor, waits for the drain of disk0",
        (NBD, "request-held-by-drain"),
    ),
    "stuck-reset": Truth(
        "stuck",
        "drain-waits-for-requests",
        "to reset the machine, waits for the drain of disk0",
        (NBD, MONITOR),
    ),
    "stuck-quit": Truth(
        "stuck",
        "drain-waits-for-requests",
        "to end QEMU, waits for the drain of disk0",
        (NBD,),
    ),
    "guest-reset": Truth(
        "stuck",
        "drain-waits-for-requests",
        "to reset a device as the guest asked, waits for the drain of disk0",
        (NBD, "main-loop-waits-for-bql"),
    ),
    "scsi-reset": Truth(
        "stuck",
        "drain-waits-for-requests",
        "to end SCSI requests as the guest asked, waits for the drain of scsi0",
        (NBD, MONITOR),
    ),
    "fork-deadlock": Truth(
        "stuck",
        "deadlock",
        "waits for mon_lock, held by I/O thread io0",
        ("main-loop-blocked-with-bql", "queue-thread-blocked"),
    ),
    "stuck-vhost-user": Truth("stuck", VHOST, "vhost-user back-end, another process"),
    "stuck-vhost-inflight": Truth("stuck", VHOST, "vhost-user back-end, another process"),
    "vhost-user-gone": Truth("stuck", "vhost-backend-gone", "nobody serves its queues"),
}


def judged(core: CoreCase) -> bool:
    return core.case.scenario in TRUTHS


def truth_of(core: CoreCase) -> Truth:
    return TRUTHS.get(core.case.scenario, HEALTHY)


def held_by_the_server(core: CoreCase) -> bool:
    """Whether a server's record is of requests as the guest made them.

    Some of `merged` are several of the guest's, some of `held-kinds` not of its reads and writes;
    of `held-devices`, other devices than disks hold some.
    """
    mixed = core.case.scenario in ("merged", "held-kinds", "held-devices")
    return truth_of(core) == BY_NBD and bool(core.case.servers) and not mixed


@cache
def why(core: CoreCase) -> Report:
    with core.open() as opened:
        return opened.why()


@pytest.fixture(params=cores(judged))
def core(request: pytest.FixtureRequest) -> CoreCase:
    found: CoreCase = request.param
    return found


def verdict_of(core: CoreCase) -> Verdict:
    verdict = why(core).verdict
    assert isinstance(verdict, Verdict)
    return verdict


def findings_of(core: CoreCase) -> tuple[Finding, ...]:
    return why(core).findings or ()


def test_the_verdict_is_what_was_brought_about(core: CoreCase) -> None:
    truth, verdict = truth_of(core), verdict_of(core)
    assert (verdict.state, verdict.code) == (truth.state, truth.code), verdict.summary
    assert truth.says in verdict.summary


def test_nothing_else_is_called_stuck_or_faulty(core: CoreCase) -> None:
    truth = truth_of(core)
    grave = {each.code for each in findings_of(core) if each.severity in ("stuck", "fault")}
    assert grave <= {truth.code, *truth.others}


def test_no_rule_failed(core: CoreCase) -> None:
    assert [each for each in why(core).limits if "failed" in each.why] == []


def test_only_a_deadlock_is_a_circle(core: CoreCase) -> None:
    graph = why(core).wait_for
    assert graph
    assert bool(graph.cycles) == (truth_of(core).code == "deadlock")


@pytest.mark.parametrize("core", cores(lambda core: truth_of(core).code == MIGRATION))
def test_a_migration_that_hangs_is_followed_to_who_has_to_answer(core: CoreCase) -> None:
    verdict = verdict_of(core)
    assert verdict.summary.startswith("The migration waits in vm_stop for the drain of ")
    assert verdict.confidence in ("high", "medium")
    last = verdict.chain[-1]
    assert last.partition(" -> ")[2].startswith(("NBD server", "the host's kernel")), last


@pytest.mark.parametrize("core", cores(held_by_the_server))
def test_all_that_the_server_holds_is_called_unanswered(core: CoreCase) -> None:
    """By the server's own record: what it held is what was sent and not answered."""
    held = sum(len(server["held"]) for server in core.case.servers)
    (found,) = (each for each in findings_of(core) if each.code == NBD)
    assert found.summary.startswith(f"{held} requests of ")


def test_evidence_can_be_printed_and_found_in_the_core(core: CoreCase) -> None:
    """Each C expression has a place in memory, and gives the number again."""
    named = [e for f in findings_of(core) for e in (*f.evidence, *f.against) if e.c_path]
    assert all(each.address is not None for each in named)
    with core.open() as opened:
        for each in named:
            if isinstance(each.value, int):
                assert value_of(opened, each.c_path) == int(each.value), each.c_path
            if each.file_offset is not None:
                data = opened.process.core.memory.read(HostAddress(int(each.address or 0)), 1)
                assert byte_of(core, each.file_offset) == data


def byte_of(core: CoreCase, offset: int) -> bytes:
    return unpacked(core.path)[offset : offset + 1] if not core.whole else _byte(core.path, offset)


def _byte(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(1)


def value_of(core: Any, path: str) -> int:
    try:
        return int(core.eval(path))
    except VringcoreError as error:
        pytest.fail(f"{path}: {error}")


def test_a_request_that_is_old_makes_it_sure(core: CoreCase) -> None:
    for finding in findings_of(core):
        if finding.code == NBD and finding.severity == "stuck":
            assert (finding.confidence == "low") == ("does not tell" in finding.summary)


def of_capture(hung: Live, out: Path) -> Report:
    """Captures a VM that runs on, by the command, and returns what is said of it."""
    words = ("capture", str(hung.pid), "-o", str(out), "-e", str(hung.executable))
    subprocess.run([sys.executable, "-m", "vringcore", *words], check=True, capture_output=True)
    with vringcore.open_core(str(out), store=LayoutStore()) as core:
        return core.why()


@pytest.mark.lab
@pytest.mark.parametrize("name", ["stuck", "stuck-scsi"])
def test_a_capture_tells_how_long_requests_have_waited(name: str, tmp_path: Path) -> None:
    began = time.monotonic_ns()
    with live("10.0", name) as hung:
        hangs = time.monotonic_ns()
        time.sleep(3)
        asked = time.monotonic_ns()
        report = of_capture(hung, tmp_path / "core")
        taken = time.monotonic_ns()
    ages = [
        request.age
        for device in report.devices or ()
        for queue in device.queues or ()
        for request in queue.in_flight or ()
    ]
    assert ages
    for age in ages:
        assert isinstance(age, Age)
        assert age.exact
        assert asked - hangs <= age.nanoseconds <= taken - began
    assert isinstance(report.verdict, Verdict)
    assert (report.verdict.state, report.verdict.confidence) == ("stuck", "medium")
    assert " s ago and have not been answered" in report.verdict.summary
    assert "at least" not in report.verdict.summary


@pytest.mark.lab
@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_captures_of_a_vm_at_work_raise_no_alarm(version: str, tmp_path: Path) -> None:
    """They are of moments that nobody chose, and the VM runs on meanwhile."""
    with live(version, "busy") as hung:
        for number in range(3):
            report = of_capture(hung, tmp_path / f"core{number}")
            assert isinstance(report.verdict, Verdict)
            assert report.verdict.state == "healthy", report.verdict.summary


def test_two_cores_of_one_moment_have_one_signature() -> None:
    pairs: dict[str, set[object]] = {}
    for each in cores(judged):
        core = each.values[0]
        if isinstance(core, CoreCase) and core.whole and len(core.case.cores()) > 1:
            pairs.setdefault(core.case.name, set()).add(why(core).signature)
    assert all(len(signatures) == 1 for signatures in pairs.values())
