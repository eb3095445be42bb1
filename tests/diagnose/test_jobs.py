"""Jobs: what they wait for, and what about them is no alarm."""

from __future__ import annotations

from typing import Any

import pytest

from tests.diagnose.builders import (
    ALARMS,
    MAIN,
    asleep,
    backend,
    block,
    codes,
    coroutine,
    device,
    finding,
    job,
    node,
    queue,
    report,
    request,
    thread,
)
from vringcore.diagnose.engine import diagnose
from vringcore.model.block import Job, TrackedRequest
from vringcore.model.report import Report
from vringcore.model.requests import Waiting
from vringcore.model.values import Address

JOBS_OWN = 0x800
"""The coroutine of the job that the builder makes."""

ANSWER = Waiting("nbd", Address(1), "nbd0", "slot 0, client connected; sent, waits for the reply")

DRAINS = ("ppoll", "aio_poll", "bdrv_drained_begin", "qmp_transaction", "main_loop_wait")
ENDS = ("ppoll", "aio_poll", "job_finish_sync_locked", "job_finish_sync", "qmp_x", "main")


def at_work(*jobs: Job, waits: tuple[Waiting, ...] = (ANSWER,), **parts: Any) -> Report:
    """Return a VM at rest with jobs, whose coroutine waits in these places."""
    own = coroutine(JOBS_OWN, "nbd_co_receive_reply", "mirror_run", "job_co_entry", waits_in=waits)
    values: dict[str, Any] = {
        "threads": asleep(),
        "coroutines": (own,),
        "block": block(nodes=(node(),), jobs=jobs),
    }
    return report(device(queue()), **{**values, **parts})


def main_in(*functions: str) -> dict[str, Any]:
    """Return the threads of a VM whose main loop is in these functions."""
    return {"threads": (thread(MAIN, "main-loop", *functions), *asleep()[1:])}


def test_a_job_that_waits_for_its_server_is_a_note() -> None:
    found = at_work(job())
    told = finding(found, "job-waits-for-requests")
    assert (told.severity, told.confidence) == ("note", "low")
    assert told.summary == (
        "job mirror0 (mirror), running, waits for 1 request with the NBD server of node nbd0"
    )
    assert diagnose(found).verdict.state == "healthy"


def test_a_thread_that_waits_for_a_jobs_end_is_stuck_with_it() -> None:
    told = finding(at_work(job(), **main_in(*ENDS)), "job-waits-for-requests")
    assert (told.severity, told.confidence) == ("stuck", "medium")
    assert told.summary.endswith("the main loop (100) waits for a job to end")


def test_a_request_of_a_jobs_node_is_the_jobs() -> None:
    """A mirror's writes are carried out by coroutines of their own."""
    written = TrackedRequest(Address(0x7F0000000000), "write", 0, 65536, False, Address(0x900))
    carries = coroutine(0x900, "nbd_co_receive_reply", "bdrv_co_pwritev", waits_in=(ANSWER,))
    blocks = block(nodes=(node(written),), jobs=(job(),))
    found = at_work(job(), block=blocks, coroutines=(carries,))
    assert "1 request with the NBD server" in finding(found, "job-waits-for-requests").summary


def test_a_request_of_the_guest_in_a_jobs_node_is_not_the_jobs() -> None:
    of_guest = request("nbd", "slot 0; sent, waits for the reply", age=1)
    written = TrackedRequest(Address(0x7F0000000000), "write", 0, 4096, False, Address(0x900))
    carries = coroutine(0x900, "nbd_co_receive_reply", "bdrv_co_pwritev", waits_in=(ANSWER,))
    busy = device(queue(inuse=1, in_flight=(of_guest,)), backend=backend(in_flight=1))
    blocks = block(nodes=(node(written),), jobs=(job(),))
    found = report(busy, threads=asleep(), coroutines=(carries,), block=blocks)
    assert "job-waits-for-requests" not in codes(found)


@pytest.mark.parametrize(
    "waits",
    [(), (Waiting("timer", Address(1), "", "until a timer expires"),)],
    ids=["nothing", "its own timer"],
)
def test_a_job_that_sleeps_is_well(waits: tuple[Waiting, ...]) -> None:
    assert codes(at_work(job(busy=False), waits=waits)) == set()


def test_a_job_that_has_ended_is_well() -> None:
    over = job(status="concluded", cancelled=True, coroutine=None)
    assert codes(at_work(over)) == set()


def test_a_job_that_does_not_pause_for_a_drain() -> None:
    asked = job(pause_count=1)
    told = finding(at_work(asked, **main_in(*DRAINS)), "job-does-not-pause")
    assert (told.severity, told.confidence) == ("stuck", "medium")
    assert "which waits for the NBD server of node nbd0" in told.summary
    assert told.threads == (MAIN,)
    alone = finding(at_work(asked), "job-does-not-pause")
    assert (alone.severity, alone.confidence) == ("warning", "low")


def test_a_job_that_is_paused_is_a_note() -> None:
    found = at_work(job(status="paused", pause_count=1, paused=True, busy=False), waits=())
    assert finding(found, "job-paused").severity == "note"
    assert codes(found, *ALARMS) == set()


def test_a_job_that_was_cancelled_and_waits() -> None:
    told = finding(at_work(job(cancelled=True)), "job-not-ending")
    assert (told.severity, told.confidence) == ("warning", "low")
    told = finding(at_work(job(cancelled=True), **main_in(*ENDS)), "job-not-ending")
    assert (told.severity, told.confidence) == ("stuck", "medium")
    assert told.summary == (
        "job mirror0 (mirror) was cancelled and is still running: it waits for the NBD server of"
        " node nbd0"
    )


def test_a_job_that_was_just_cancelled_is_a_note() -> None:
    found = at_work(job(cancelled=True, busy=False), waits=())
    assert finding(found, "job-not-ending").severity == "note"
    assert codes(found, *ALARMS) == set()
