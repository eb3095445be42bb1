"""Coroutines that nobody wakes, drained sections that nobody ends: and what only looks so."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.diagnose.builders import (
    ALARMS,
    IO_LOOP,
    IOTHREAD,
    MAIN,
    MAIN_SLEEP,
    asleep,
    backend,
    backend_state,
    block,
    codes,
    coroutine,
    device,
    finding,
    job,
    loop,
    node,
    queue,
    report,
    thread,
)
from vringcore.model.block import Engine, PoolElement, TrackedRequest
from vringcore.model.coroutines import Coroutine
from vringcore.model.loops import BottomHalf, Handler, Timer
from vringcore.model.report import Limitation, Report
from vringcore.model.requests import Waiting
from vringcore.model.values import Absent, Address

CO, OTHER, TRACKED = 0x500, 0x510, 0x7F0000000000

PARKED = ("qemu_coroutine_yield", "some_wait", "bdrv_co_pwritev", "blk_aio_write_entry")

NEVER = "coroutine-never-woken"
OPEN = "drained-section-left-open"


def tracked(**members: Any) -> TrackedRequest:
    """Return a write that is under way."""
    values = {"waiting_for": (), "waiters": ()}
    return TrackedRequest(
        Address(TRACKED), "write", 0, 4096, False, Address(CO), **{**values, **members}
    )


def sleeping(*coroutines: Coroutine, **parts: Any) -> Report:
    """Return a VM at rest with one write under way, in these coroutines."""
    values: dict[str, Any] = {
        "threads": asleep(),
        "event_loops": (loop(),),
        "block": block(nodes=(node(tracked()),)),
        "locks": (),
    }
    return report(device(queue()), coroutines=coroutines, **{**values, **parts})


def test_a_coroutine_that_is_in_no_list_is_told_of_with_care() -> None:
    found = finding(sleeping(coroutine(CO, *PARKED)), NEVER)
    assert (found.severity, found.confidence) == ("warning", "low")
    assert found.summary.startswith("a write of 4096 bytes at 0 of node nbd0 sleeps")


def test_a_socket_that_nobody_watches() -> None:
    reads = Waiting("io-channel", Address(1), "", "until file descriptor 11 can be read")
    waits = (Waiting("nbd", Address(2), "nbd0", "slot 0; sent"), reads)
    lost = coroutine(CO, "qio_channel_yield", "nbd_read_eof", waits_in=waits)
    found = finding(sleeping(lost), NEVER)
    assert (found.severity, found.confidence) == ("stuck", "medium")
    assert "no event loop watches its socket, file descriptor 11" in found.summary


def test_a_socket_that_is_watched_is_well() -> None:
    reads = Waiting("io-channel", Address(1), "", "until file descriptor 11 can be read")
    watched = Handler(
        Address(3), 11, ("in",), "qio_channel_restart_read", None, None, Address(4), True, True
    )
    lost = coroutine(CO, "qio_channel_yield", "nbd_read_eof", waits_in=(reads,))
    home = replace(loop(), handlers=(watched,))
    assert codes(sleeping(lost, event_loops=(home,)), *ALARMS) == set()


def test_an_overlapping_request_that_has_ended() -> None:
    waits = tracked(waiting_for=(Address(0x7F0000009999),))
    asks = {"block": block(nodes=(node(waits),))}
    found = finding(sleeping(coroutine(CO, *PARKED), **asks), NEVER)
    assert "no longer under way" in found.summary
    assert found.severity == "stuck"


def test_an_overlapping_request_that_is_under_way_is_well() -> None:
    other = TrackedRequest(
        Address(TRACKED + 64), "write", 0, 4096, True, Address(OTHER), (), (Address(CO),)
    )
    waits = tracked(waiting_for=(other.address,))
    asks = {"block": block(nodes=(node(waits, other),))}
    assert codes(sleeping(coroutine(CO, *PARKED), **asks), *ALARMS) == set()


def pool(*elements: PoolElement) -> Engine:
    """Return a thread pool with this work."""
    return Engine("thread-pool", Address(0x300), IO_LOOP, 1, 0, elements=elements)


def test_work_that_the_thread_pool_does_not_know() -> None:
    lost = coroutine(CO, "thread_pool_submit_co", "raw_thread_pool_submit", "raw_co_prw")
    theirs = PoolElement(Address(0x400), "active", Address(OTHER), "handle_aiocb_rw")
    blocks = block(nodes=(node(tracked()),), engines=(pool(theirs),))
    found = finding(sleeping(lost, block=blocks), NEVER)
    assert "no thread pool has its work" in found.summary
    mine = PoolElement(Address(0x400), "active", Address(CO), "handle_aiocb_rw")
    blocks = block(nodes=(node(tracked()),), engines=(pool(theirs, mine),))
    assert codes(sleeping(lost, block=blocks), *ALARMS) == set()


@pytest.mark.parametrize(
    "members",
    [
        {"scheduled": (Address(CO),)},
        {"bottom_halves": (BottomHalf(Address(1), None, "aio_co_wake", Address(CO), ("idle",)),)},
        {"timers": (Timer(Address(2), "realtime", 5, "co_sleep_cb", Address(0x8010)),)},
        {"timers": Absent("truncated")},
    ],
    ids=["scheduled", "a bottom half", "a timer on its stack", "timers lost"],
)
def test_what_an_event_loop_will_enter_is_well(members: dict[str, Any]) -> None:
    found = sleeping(coroutine(CO, *PARKED), event_loops=(loop(**members),))
    assert codes(found, *ALARMS) - {"wakeup-lost"} == set()


@pytest.mark.parametrize(
    "members",
    [
        {"caller": Address(OTHER)},
        {"state": "running"},
        {"state": "calling"},
        {"frames_end": "stack-not-readable"},
        {"waits_in": (Waiting("linux-aio", Address(1), "nbd0", "submitted"),)},
    ],
    ids=["entered by another", "running", "calling", "half a stack", "with the kernel"],
)
def test_a_coroutine_that_does_not_merely_sleep_is_well(members: dict[str, Any]) -> None:
    assert codes(sleeping(coroutine(CO, *PARKED, **members)), *ALARMS) == set()


@pytest.mark.parametrize("function", ["qemu_rbd_start_co", "iscsi_co_writev", "luring_co_submit"])
def test_what_a_library_wakes_is_not_judged(function: str) -> None:
    parked = coroutine(CO, "qemu_coroutine_yield", function, "bdrv_co_pwritev")
    assert codes(sleeping(parked), *ALARMS) == set()


def test_a_report_with_a_list_cut_short_is_not_judged() -> None:
    cut = Limitation("the list of bottom halves", "a loop")
    assert codes(sleeping(coroutine(CO, *PARKED), limits=(cut,)), *ALARMS) == set()


def test_a_coroutine_of_the_monitor_is_not_judged() -> None:
    waits = coroutine(0x900, "monitor_qmp_dispatcher_pop_any", "monitor_qmp_dispatcher_co")
    blocks = block(nodes=(node(),))
    assert codes(sleeping(waits, block=blocks), *ALARMS) == set()


def test_a_coroutine_whose_thread_is_at_work_is_a_warning_at_most() -> None:
    reads = Waiting("io-channel", Address(1), "", "until file descriptor 11 can be read")
    busy = thread(IOTHREAD, "iothread", "qio_channel_readv", "aio_dispatch", "aio_poll")
    lost = coroutine(CO, "qio_channel_yield", waits_in=(reads,))
    found = finding(sleeping(lost, threads=(asleep()[0], busy)), NEVER)
    assert (found.severity, found.confidence) == ("warning", "low")


def quiesced(*queued: int, **parts: Any) -> Report:
    """Return a disk in a drained section at rest, with coroutines that it holds back."""
    disk = backend(quiesced=1)
    state = backend_state(disk, queued=tuple(map(Address, queued)))
    held = [coroutine(each, "blk_wait_while_drained", "blk_co_do_pwritev_part") for each in queued]
    values: dict[str, Any] = {
        "threads": asleep(),
        "event_loops": (loop(),),
        "coroutines": tuple(held),
        "block": block(nodes=(node(quiesce_counter=1),), backends=(state,)),
    }
    return report(device(queue(), backend=disk), **{**values, **parts})


def test_a_drained_section_that_nobody_ends() -> None:
    found = finding(quiesced(CO, OTHER), OPEN)
    assert (found.severity, found.confidence) == ("stuck", "medium")
    assert found.summary == (
        "a drained section of node nbd0 was begun and nobody is left to end it: 2 requests have"
        " been held back since"
    )
    assert finding(quiesced(), OPEN).severity == "warning"


@pytest.mark.parametrize(
    "parts",
    [
        {
            "threads": (
                thread(MAIN, "main-loop", "ppoll", "aio_poll", "bdrv_drained_begin", "main"),
            )
        },
        {
            "threads": (
                thread(MAIN, "main-loop", "bdrv_reopen_multiple", "qmp_x", "main_loop_wait"),
            )
        },
        {"threads": (thread(1, "worker", "clone"),)},
        {"coroutines": (coroutine(CO, "bdrv_co_yield_to_drain", "bdrv_drained_begin"),)},
        {"coroutines": (coroutine(CO, "job_sleep_ns", "mirror_run"),)},
        {"run_state": "finish-migrate"},
        {"coroutines": Absent("not-dumped")},
    ],
    ids=["drains", "reopens", "no main loop", "in a coroutine", "a job", "migrates", "unknown"],
)
def test_a_drained_section_that_somebody_may_end_is_well(parts: dict[str, Any]) -> None:
    assert OPEN not in codes(quiesced(CO, **parts))


def test_a_jobs_drained_section_is_well() -> None:
    disk = backend(quiesced=1)
    blocks = block(nodes=(node(quiesce_counter=1),), jobs=(job(),))
    found = report(device(queue(), backend=disk), threads=asleep(), coroutines=(), block=blocks)
    assert OPEN not in codes(found)


def test_no_drained_section_is_well() -> None:
    threads = (thread(MAIN, "main-loop", *MAIN_SLEEP),)
    found = report(device(queue()), threads=threads, coroutines=(), block=block(nodes=(node(),)))
    assert codes(found) == set()
