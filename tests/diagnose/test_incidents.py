"""Incidents of others, as far as their facts are facts of queues, threads, locks and block nodes.

The numbers are those that were reported. What each rule must not say of them is here, too.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.diagnose.builders import (
    ALARMS,
    IDLE_VCPU,
    IOTHREAD,
    MAIN,
    MAIN_SLEEP,
    MIGRATION,
    SLEEP,
    VCPU,
    asleep,
    backend,
    block,
    bottom_half,
    codes,
    device,
    finding,
    futex,
    lock,
    loop,
    node,
    queue,
    report,
    request,
    thread,
)
from vringcore.diagnose.engine import diagnose
from vringcore.model.block import Engine, NbdConnection, PoolElement, TrackedRequest
from vringcore.model.queues import Counts, EventSuppression, PackedGuest
from vringcore.model.requests import Descriptor
from vringcore.model.threads import SystemCall
from vringcore.model.values import Address, Pointer

BQL, CONTEXT = 0x1000, 0x2000

ENGINE: dict[str, Any] = {"address": Address(0x300), "event_loop": Address(0x5640E315A720)}


def test_a_circle_of_the_big_lock_and_an_event_loops_lock() -> None:
    """The migration holds the BQL and wants the context; the I/O thread has that, and an MMIO."""
    threads = (
        thread(MAIN, "main-loop", "lll_lock_wait", "pthread_mutex_lock", "main_loop_wait"),
        thread(MIGRATION, "migration", "lll_lock_wait", "aio_context_acquire", "vm_stop"),
        thread(
            IOTHREAD,
            "iothread",
            *("lll_lock_wait", "qemu_mutex_lock_iothread_impl", "prepare_mmio_access"),
            *("msix_notify", "virtio_notify", "virtio_blk_rw_complete", "aio_poll"),
            name="iothread4",
        ),
    )
    locks = (
        lock(BQL, "BQL", MIGRATION, IOTHREAD, MAIN),
        lock(CONTEXT, "AioContext lock of iothread4", IOTHREAD, MIGRATION),
    )
    found = diagnose(report(device(queue()), threads=threads, locks=locks))
    assert found.verdict.code == "deadlock"
    assert found.verdict.summary == (
        "Deadlock: migration thread (103) waits for AioContext lock of iothread4, held by I/O"
        " thread iothread4 (101), which waits for QEMU's big lock, held by migration thread (103)."
    )
    assert [set(cycle) for cycle in found.wait_for.cycles] == [
        {"lock:0x1000", "lock:0x2000", f"thread:{MIGRATION}", f"thread:{IOTHREAD}"}
    ]
    hint = finding(found, "known-defect-interrupt-from-iothread")
    assert (hint.severity, hint.confidence) == ("note", "medium")
    assert "bfa36802d1" in hint.summary


def test_completions_that_the_source_host_owed() -> None:
    """used_event 33249, used 33377: 128 done, none seen, and no decision was made here."""
    idle = queue(avail=33377, used_event=33249, signalled_used=0, signalled_used_valid=False)
    found = finding(report(device(idle), threads=asleep()), "completions-not-signalled")
    assert found.severity == "stuck"
    assert found.summary.startswith("128 completions of queue 0")


def test_completions_left_after_a_link_flap() -> None:
    """avail and used 43936, nothing in flight, used_event 43932, signalled_used 0 and not valid."""
    flapped = queue(avail=43936, used_event=43932, signalled_used=0, signalled_used_valid=False)
    found = report(device(flapped), threads=asleep())
    assert codes(found, *ALARMS) == {"completions-not-signalled"}
    assert finding(found, "completions-not-signalled").confidence == "medium"
    assert diagnose(found).verdict.summary.startswith("4 completions of queue 0 of disk0")


@pytest.mark.parametrize(("used_event", "why"), [(0, "it does not wait"), (32000, "long behind")])
def test_a_driver_that_does_not_wait_is_owed_nothing(used_event: int, why: str) -> None:
    polling = queue(avail=43936, used_event=used_event, signalled_used_valid=False)
    assert codes(report(device(polling), threads=asleep()), *ALARMS) == set(), why


def test_a_worker_is_done_and_the_completion_was_not_run() -> None:
    """Element THREAD_DONE, bottom half pending and scheduled, home thread asleep in ppoll."""
    done = PoolElement(Address(0x400), "done", Address(0x500), "handle_aiocb_rw")
    pool = Engine("thread-pool", in_flight=0, in_queue=0, elements=(done,), **ENGINE)
    loops = (loop(bottom_halves=(bottom_half("pending", "scheduled"),)),)
    found = report(
        device(queue()), threads=asleep(), event_loops=loops, block=block(engines=(pool,))
    )
    assert codes(found, "stuck") == {"completion-not-run", "wakeup-lost"}
    assert "5710a3e09f" in finding(found, "known-defect-missing-barrier").summary


def test_a_drain_waits_for_what_a_worker_has_done() -> None:
    """A backup that never starts: the main loop drains, the request's element is done."""
    from tests.diagnose.builders import backend

    main = thread(MAIN, "main-loop", "ppoll", "aio_poll", "bdrv_drained_begin", "main_loop_wait")
    home = thread(IOTHREAD, "iothread", *SLEEP)
    done = request("thread-pool", "done, its completion has not run", age=90)
    busy = device(
        queue(avail=7, inuse=1, in_flight=(done,)), backend=backend(in_flight=1, quiesced=1)
    )
    found = diagnose(report(busy, threads=(main, home)))
    assert found.verdict.code == "drain-waits-for-requests"


def test_a_thread_waits_for_a_lock_that_it_holds() -> None:
    """A throttle group's lock, taken at throttle-groups.c:372 and again at 386."""
    own = thread(
        IOTHREAD, "iothread", "lll_lock_wait", "throttle_group_restart_queue", "aio_poll", name="2"
    )
    locks = (lock(CONTEXT, "ThrottleGroup.lock", IOTHREAD, IOTHREAD),)
    found = report(device(queue()), threads=(*asleep()[::2], own), locks=locks)
    assert diagnose(found).verdict.summary == (
        "Deadlock: I/O thread 2 (101) waits for ThrottleGroup.lock, held by I/O thread 2 (101)."
    )
    assert "3144" in finding(found, "known-defect-throttle-lock-taken-twice").summary


def test_scsi_requests_are_cancelled_under_a_lock_that_is_held() -> None:
    own = thread(MAIN, "main-loop", "lll_lock_wait", "scsi_device_for_each_req", "scsi_do_tmf_bh")
    locks = (lock(CONTEXT, "SCSIDevice.requests_lock", MAIN, MAIN),)
    found = report(device(queue()), threads=(own,), locks=locks)
    assert "005898a" in finding(found, "known-defect-scsi-cancel-lock").summary


def test_notifications_left_off_after_a_drain() -> None:
    """Guest published 5, QEMU took 0, notification false, nobody polls."""
    quiet = queue(2, avail=5, last_avail=0, used=0, notification=False)
    found = report(device(quiet), threads=asleep(), event_loops=(loop(watched=(2,)),))
    left = finding(found, "queue-notifications-left-off")
    assert (left.severity, left.confidence, left.queue) == ("stuck", "high", 2)
    assert codes(found, "stuck") == {"queue-notifications-left-off"}
    assert "RHEL-3934" in finding(found, "known-defect-notifications-after-drain").summary


def test_the_event_queue_of_virtio_scsi_is_left_alone() -> None:
    """avail 8, last 0 for ever: its buffers wait for events, whatever the notifications are."""
    events = queue(1, role="event", avail=8, last_avail=0, used=0, notification=False)
    found = report(
        device(events, kind="virtio-scsi"), threads=asleep(), event_loops=(loop(watched=(1,)),)
    )
    assert codes(found) == set()


def test_a_lost_wake_up_of_an_event_loop() -> None:
    scheduled = loop(bottom_halves=(bottom_half("pending", "scheduled"),))
    found = report(device(queue()), threads=asleep(), event_loops=(scheduled,))
    assert codes(found, "stuck") == {"wakeup-lost"}
    told = loop(bottom_halves=(bottom_half("pending", "scheduled"),), notified=True)
    assert codes(report(device(queue()), threads=asleep(), event_loops=(told,))) == set()


def test_elements_dropped_by_a_serial_port() -> None:
    """last_avail 7929, used 7801: the whole ring of 128, and inuse is 0."""
    dropped = queue(1, role="tx0", avail=7929, used=7801, inuse=0, size=128)
    found = report(device(dropped, kind="virtio-serial"), threads=asleep())
    leak = finding(found, "elements-leaked")
    assert (leak.severity, leak.confidence) == ("stuck", "high")
    assert leak.summary.startswith("128 elements of queue 1")
    assert "October 2023" in finding(found, "known-defect-serial-discards-element").summary


def test_part_of_a_ring_dropped_is_a_fault_and_not_stuck_yet() -> None:
    found = report(device(queue(avail=100, used=90, inuse=3)), threads=asleep())
    leak = finding(found, "elements-leaked")
    assert (leak.severity, leak.summary[:10]) == ("fault", "7 elements")


def test_two_requests_in_one_indirect_table() -> None:
    """The driver used a table again after a time-out of its own; QEMU broke the device."""

    def held(head: int, length: int) -> Any:
        from msgspec.structs import replace

        entry = Descriptor(0, Address(0x9000), length, 0, table=Address(0x7000_0000))
        return replace(request("nbd", head=head), descriptors=(entry,))

    both = queue(avail=20, inuse=2, in_flight=(held(3, 48), held(9, 160)))
    found = report(device(both, broken=True), threads=asleep())
    assert codes(found, "stuck", "fault") == {"device-broken", "descriptor-table-shared"}
    assert diagnose(found).verdict.code == "device-broken"
    assert "heads 3, 9" in finding(found, "descriptor-table-shared").summary


def test_a_driver_that_did_not_kick() -> None:
    """Published beyond last_avail, notifications on, handler attached, thread idle."""
    waiting = device(queue(avail=1003, last_avail=1000))
    found = report(waiting, threads=asleep(), event_loops=(loop(),))
    missed = finding(found, "kick-not-seen")
    assert (missed.severity, missed.confidence) == ("stuck", "medium")
    assert "published 3 requests in queue 0" in missed.summary


def test_a_vhost_ring_is_not_judged_by_qemus_indices() -> None:
    """vhost-scsi in the kernel: avail ahead, used still; QEMU's copies are of long ago."""
    stale = queue(avail=50, last_avail=7, used=3, guest_used=48, ring_owner="vhost-kernel")
    found = diagnose(
        report(device(stale, kind="vhost-scsi", ring_owner="vhost-kernel"), threads=asleep())
    )
    assert codes(found) == {"request-not-completed-by-vhost-backend"}
    said = finding(found, "request-not-completed-by-vhost-backend")
    assert said.summary.startswith("2 requests of disk0 (vhost-scsi)")
    assert said.confidence == "low"
    assert any("vhost-kernel" in each for each in found.verdict.unchecked)


def test_a_flush_of_the_migration_needs_the_main_loop_that_it_blocks() -> None:
    threads = (
        thread(MAIN, "main-loop", "lll_lock_wait", "qemu_mutex_lock_iothread_impl"),
        thread(MIGRATION, "migration", "futex_wait", "bdrv_flush", "vm_stop"),
    )
    locks = (lock(BQL, "BQL", MIGRATION, MAIN), lock(0x3000, "", MAIN, MIGRATION))
    found = report(device(queue()), threads=threads, locks=locks)
    assert diagnose(found).verdict.code == "deadlock"
    assert "780" in finding(found, "known-defect-flush-under-big-lock").summary


def test_a_short_read_that_nobody_submits_again() -> None:
    """io_uring: in_queue 1, in_flight 0, not plugged, no bottom half."""
    ring = Engine("io-uring", in_flight=0, in_queue=1, blocked=False, plugged=0, **ENGINE)
    parts: dict[str, Any] = {"threads": asleep(), "event_loops": (loop(),)}
    found = report(device(queue()), block=block(engines=(ring,)), **parts)
    assert codes(found, "stuck") == {"submission-orphaned"}
    assert "3edf740" in finding(found, "known-defect-short-read-not-submitted").summary
    full = Engine("io-uring", in_flight=4, in_queue=1, blocked=True, plugged=0, **ENGINE)
    assert codes(report(device(queue()), block=block(engines=(full,)), **parts)) == set()


def test_a_write_parked_in_a_client_whose_server_died() -> None:
    """The main loop drains; a coroutine waits in free_sema; the connection is gone."""
    from tests.diagnose.builders import backend

    client = NbdConnection(
        address=Address(0x600),
        state="quit",
        server="nbd://server",
        in_flight=0,
        slots=(),
        waiting=(Address(0x500),),
        reconnect_delay=0,
        reconnect_expires_ns=None,
    )
    tracked = TrackedRequest(Address(0x7F0000000000), "write", 0, 4096, False, Address(0x500))
    main = thread(MAIN, "main-loop", "ppoll", "aio_poll", "bdrv_do_drained_begin", "qmp_stop")
    parked = request("nbd", "waits for a free slot, client quit")
    busy = device(
        queue(avail=9, inuse=1, in_flight=(parked,)), backend=backend(in_flight=1, quiesced=1)
    )
    found = report(
        busy,
        threads=(main, thread(VCPU, "vcpu", *IDLE_VCPU)),
        block=block(nodes=(node(tracked, nbd=client, quiesce_counter=1),)),
    )
    assert codes(found, "stuck") == {"drain-waits-for-requests", "nbd-waiters-never-woken"}
    assert "6690302b84" in finding(found, "known-defect-nbd-waiters").summary


def test_a_packed_rings_index_went_round() -> None:
    """Completions unseen, signalled_used equal to used_idx, which is modulo the ring's size."""
    event = EventSuppression(0x8005, 5, True, 2, "desc")
    ring = queue(
        ring="packed",
        guest=PackedGuest(event, event),
        counts=Counts(0, 0, 0, 0, 0, 12),
        signalled_used=1000,
    )
    found = report(device(ring), threads=asleep())
    assert "750539c4c4" in finding(found, "known-defect-packed-signal-wrap").summary
    assert codes(found, "stuck", "fault") == set()
    assert finding(found, "completions-not-seen-by-driver").severity == "warning"


def test_the_monitor_is_dead_because_the_migration_drains_with_the_big_lock() -> None:
    main = thread(MAIN, "main-loop", "lll_mutex_lock", call=futex("qemu_global_mutex"))
    drains = ("ppoll", "aio_poll", "bdrv_do_drained_begin", "virtio_blk_data_plane_stop", "vm_stop")
    migration = thread(MIGRATION, "migration", *drains)
    locks = (lock(BQL, "BQL", MIGRATION, MAIN),)
    busy = device(queue(avail=8, inuse=1))
    found = diagnose(report(busy, threads=(main, migration), locks=locks))
    assert finding(found, "main-loop-waits-for-bql").confidence == "high"
    assert found.verdict.code == "migration-waits-for-drain"
    assert "the monitor does not answer" in found.verdict.summary
    assert found.verdict.chain[0].startswith("main loop (100) -> QEMU's big lock")


def test_a_drain_is_told_where_a_stripped_program_does_not_name_it() -> None:
    """The poll is of a function without a name; vm_stop is exported, and the disk is drained."""
    drains = ("ppoll", "", "aio_poll", "", "blk_set_aio_context", "", "vm_stop", "", "start_thread")
    call = SystemCall(202, "futex", {"address": Pointer(Address(0x55))})
    main = thread(MAIN, "main-loop", "lll_mutex_lock", call=call)
    migration = thread(MIGRATION, "migration", *drains)
    held = replace(lock(BQL, "BQL", MIGRATION, MAIN), address=Address(0x55))
    busy = device(queue(avail=8, inuse=1), backend=backend(in_flight=1, quiesced=1))
    found = diagnose(report(busy, threads=(main, migration), locks=(held,)))
    assert found.verdict.code == "migration-waits-for-drain"
    assert finding(found, "migration-waits-for-drain").confidence == "medium"
    assert finding(found, "main-loop-waits-for-bql").confidence == "high"
    assert "vm_stop" in found.verdict.summary


@pytest.mark.parametrize(
    ("drains", "quiesced"),
    [
        (("ppoll", "aio_poll", "", "blk_set_aio_context", "vm_stop"), 0),
        (("ppoll", "aio_poll", "job_finish", "blk_set_aio_context", "vm_stop"), 1),
        (("ppoll", "aio_poll", "", "somewhere"), 1),
        (("ppoll", "", "blk_set_aio_context", "vm_stop"), 1),
    ],
)
def test_not_every_nested_loop_is_a_drain(drains: tuple[str, ...], quiesced: int) -> None:
    busy = device(queue(avail=8, inuse=1), backend=backend(in_flight=1, quiesced=quiesced))
    found = report(busy, threads=(thread(MIGRATION, "migration", *drains),))
    assert "migration-waits-for-drain" not in codes(found)


def test_a_main_loop_in_its_own_sleep_is_well() -> None:
    main = thread(MAIN, "main-loop", *MAIN_SLEEP)
    assert codes(report(device(queue()), threads=(main,))) == set()
