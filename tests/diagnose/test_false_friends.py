"""What looks wrong and is not: no rule may raise an alarm for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.diagnose.builders import (
    ALARMS,
    BUSY_VCPU,
    IOTHREAD,
    MAIN,
    MAIN_SLEEP,
    SLEEP,
    VCPU,
    asleep,
    backend,
    bottom_half,
    codes,
    device,
    finding,
    findings,
    futex,
    lock,
    loop,
    queue,
    report,
    request,
    thread,
)
from vringcore.diagnose.engine import diagnose
from vringcore.model.devices import Device
from vringcore.model.machine import Interrupts, Machine, MsixVector
from vringcore.model.queues import Counts, Queue, SplitGuest
from vringcore.model.report import Limitation, Report
from vringcore.model.requests import InFlight
from vringcore.model.values import Absent, Address, Flags

LOST = Absent("not-dumped", None, "dump-guest-core=on")


def full(role: str) -> Queue:
    """Return a queue that is full of buffers of which the device has taken none."""
    return queue(avail=256, last_avail=0, used=0, role=role)


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        ("virtio-net", "rx0"),
        ("virtio-scsi", "event"),
        ("virtio-serial", "control-rx"),
        ("virtio-serial", "rx7"),
        ("virtio-input", "event"),
        ("virtio-balloon", "reporting"),
        ("virtio-vsock", "rx"),
    ],
)
def test_a_queue_full_of_buffers_to_fill_is_well(kind: str, role: str) -> None:
    found = report(
        device(full(role), kind=kind, backend=None), threads=asleep(), event_loops=(loop(),)
    )
    assert codes(found) == set()


def test_the_same_queue_of_requests_is_not() -> None:
    found = report(device(full("requests0")), threads=asleep(), event_loops=(loop(),))
    assert codes(found, "stuck") == {"kick-not-seen"}


@pytest.mark.parametrize(
    "members",
    [
        {"vm_running": False},
        {"status": Flags(Address(3), ("ACKNOWLEDGE", "DRIVER"))},
        {"status": Absent("not-dumped")},
    ],
    ids=["stopped", "no driver", "status lost"],
)
def test_a_device_that_need_not_serve_is_well(members: dict[str, Any]) -> None:
    waiting = queue(avail=1003, last_avail=1000)
    found = report(device(waiting, **members), threads=asleep(), event_loops=(loop(),))
    assert codes(found, *ALARMS) == set()


@pytest.mark.parametrize("state", ["paused", "prelaunch", "save-vm", "inmigrate"])
def test_a_vm_that_stands_still_by_order_is_well(state: str) -> None:
    unread = queue(avail=1003, last_avail=1000, used_event=990, signalled_used_valid=False)
    found = diagnose(
        report(device(unread), run_state=state, threads=asleep(), event_loops=(loop(),))
    )
    assert found.verdict.state == "healthy"
    assert codes(found, *ALARMS) == set()
    assert any(state in each for each in found.verdict.unchecked)


def test_without_guest_ram_there_is_no_alarm_and_no_clean_bill() -> None:
    guest = SplitGuest(LOST, LOST, LOST, LOST, LOST, LOST)
    counts = Counts(LOST, 0, 0, 0, 0, LOST)
    lost = queue(ring_state="unreadable", guest=guest, counts=counts)
    found = diagnose(report(device(lost), threads=asleep(), event_loops=(loop(),)))
    assert found.findings == ()
    assert found.verdict.state == "unknown"
    assert "not in the core" in found.verdict.summary


def test_indices_that_have_wrapped_are_compared_as_such() -> None:
    wrapped = queue(avail=3, last_avail=3, used=65534, inuse=5, guest_used=65534)
    found = report(device(wrapped), threads=asleep(), event_loops=(loop(),))
    assert codes(found, "stuck", "fault") == set()


def test_a_broken_device_with_healthy_rings_is_broken() -> None:
    found = report(device(queue(), broken=True), threads=asleep())
    assert codes(found, *ALARMS) == {"device-broken"}


def test_a_busy_guest_has_just_published_something() -> None:
    threads = (
        thread(MAIN, "main-loop", *MAIN_SLEEP),
        thread(IOTHREAD, "iothread", *SLEEP),
        thread(VCPU, "vcpu", *BUSY_VCPU),
    )
    moving = queue(
        avail=1003,
        last_avail=1002,
        inuse=2,
        used_event=999,
        in_flight=(request("nbd", "slot 0; sent, waits for the reply", age=0.001),),
    )
    found = diagnose(report(device(moving), threads=threads, event_loops=(loop(),)))
    assert codes(found, *ALARMS) == set()
    assert found.verdict.state == "healthy"
    assert "a vCPU runs" in str(finding(found, "kick-not-seen").against)


RAN_ON = Limitation("the process ran on while it was captured", "changed meanwhile: 64 bytes")


def captured(*queues: Queue, **parts: Any) -> Report:
    """Return a disk of a VM that ran on while it was captured."""
    values: dict[str, Any] = {"threads": asleep(), "event_loops": (loop(),), "limits": (RAN_ON,)}
    return report(device(*queues), **{**values, **parts})


def test_a_queue_that_moved_while_it_was_captured_is_at_work() -> None:
    """QEMU's indices were read first, the ring 2401 requests later."""
    moved = queue(avail=9532, last_avail=7131, used=7131, guest_used=9531)
    found = diagnose(captured(moved))
    assert codes(found) == set()
    assert found.verdict.state == "healthy"
    assert any("at work while the process was captured" in e for e in found.verdict.unchecked)
    still = report(device(moved), threads=asleep(), event_loops=(loop(),))
    assert "avail-index-corrupt" in codes(still)


def test_lists_of_a_process_that_worked_on_are_not_judged() -> None:
    moved = queue(avail=1003, last_avail=1000, guest_used=1002)
    scheduled = loop(bottom_halves=(bottom_half("pending", "scheduled"),))
    assert codes(captured(moved, event_loops=(scheduled,))) == set()
    at_rest = captured(queue(), event_loops=(scheduled,))
    assert codes(at_rest, "stuck") == {"wakeup-lost"}


def test_a_main_loop_that_waits_for_a_vcpu_at_work_is_well() -> None:
    """Under TCG the vCPUs take the big lock for every access to a device."""
    waits = thread(MAIN, "main-loop", "lll_lock_wait", "qemu_mutex_lock", call=futex("bql"))
    runs = thread(VCPU, "vcpu", *BUSY_VCPU)
    locks = (lock(0x1000, "BQL", VCPU, MAIN),)
    found = report(device(queue()), threads=(waits, runs), locks=locks)
    assert finding(found, "main-loop-waits-for-bql").severity == "note"
    assert diagnose(found).verdict.state == "healthy"


def test_what_waits_in_a_process_that_ran_on_is_found() -> None:
    held = request("nbd", "slot 0; sent, waits for the reply", age=40)
    moved = queue(1, avail=1003, last_avail=1000, guest_used=1002)
    found = captured(queue(avail=50, inuse=1, in_flight=(held,)), moved)
    assert codes(found, "stuck") == {"request-not-answered-by-nbd-server"}


def test_virtio_net_switches_notifications_off_by_design() -> None:
    sending = queue(1, role="tx0", avail=9, last_avail=5, used=5, notification=False)
    found = report(
        device(sending, kind="virtio-net"), threads=asleep(), event_loops=(loop(watched=(1,)),)
    )
    assert codes(found) == set()


def test_a_loop_that_polls_needs_no_notifications() -> None:
    polled = queue(avail=5, last_avail=0, used=0, notification=False)
    found = report(device(polled), threads=asleep(), event_loops=(loop(polling=True),))
    assert codes(found, *ALARMS) == set()


def test_what_a_balloon_keeps_is_no_lost_request() -> None:
    stats = queue(2, role="stats", avail=1, used=0, inuse=1)
    assert codes(report(device(stats, kind="virtio-balloon"), threads=asleep())) == set()


def test_a_thread_at_work_in_the_device_lowers_the_confidence() -> None:
    working = (thread(IOTHREAD, "iothread", "virtio_blk_handle_vq", "aio_poll", "iothread_run"),)
    torn = device(queue(avail=100, used=90, inuse=3))
    assert finding(report(torn, threads=working), "elements-leaked").confidence == "medium"
    assert finding(report(torn, threads=asleep()), "elements-leaked").confidence == "high"


def test_a_reply_that_nobody_could_read_is_not_the_servers_fault() -> None:
    main = thread(MAIN, "main-loop", "pread64", "raw_probe_alignment", "aio_bh_poll")
    call = thread(MAIN, "main-loop", "lll_lock_wait", "qemu_mutex_lock_impl", "aio_bh_poll")
    for busy in (main, call):
        sent = request("nbd", "slot 0; sent, waits for the reply", age=40)
        disk = device(queue(avail=7, inuse=1, in_flight=(sent,)), iothread=None)
        threads = (busy,) if busy is call else (_in_call(busy),)
        found = finding(report(disk, threads=threads), "request-not-answered-by-nbd-server")
        assert (found.severity, found.confidence) == ("note", "low")
        assert "blocked" in found.summary


def _in_call(of: Any) -> Any:
    from msgspec.structs import replace

    from vringcore.model.threads import SystemCall

    return replace(of, system_call=SystemCall(17, "pread64", {"fd": 11}))


def held(age: float | None, head: int, *, exact: bool = False) -> InFlight:
    from msgspec.structs import replace

    from vringcore.model.requests import Age

    made = request("nbd", "slot 0, client connected; sent, waits for the reply", head=head, age=age)
    return replace(made, age=Age(int((age or 0) * 1e9), exact=True)) if exact else made


def disk_with(*requests: InFlight) -> Device:
    return device(
        queue(avail=50, inuse=len(requests), in_flight=requests),
        backend=backend(in_flight=len(requests)),
    )


@pytest.mark.parametrize(
    ("age", "exact", "severity", "confidence"),
    [
        (45.0, False, "stuck", "high"),
        (5.0, False, "stuck", "medium"),
        (0.2, True, "note", "low"),
        (0.2, False, "stuck", "low"),
        (None, False, "stuck", "low"),
    ],
)
def test_age_decides_how_sure_it_is(
    age: float | None, exact: bool, severity: str, confidence: str
) -> None:
    found = report(disk_with(held(age, 1, exact=exact)), threads=asleep())
    one = finding(found, "request-not-answered-by-nbd-server")
    assert (one.severity, one.confidence) == (severity, confidence)
    assert ("does not tell" in one.summary) == (not exact and (age or 0) < 2)


def test_one_old_request_among_young_ones_is_told_as_that() -> None:
    found = report(disk_with(held(2.6, 1), held(0, 2), held(0.001, 3)), threads=asleep())
    one = finding(found, "request-not-answered-by-nbd-server")
    assert one.summary.startswith("1 of 3 requests of disk0 (virtio-blk) was sent")
    assert one.against[0].value == 2
    assert [each.what for each in one.evidence] == ["head 1 of queue 0 of disk0 (virtio-blk)"]


def test_requests_whose_age_is_unknown_while_the_guest_works_elsewhere_decide_nothing() -> None:
    threads = (*asleep()[:2], thread(VCPU, "vcpu", *BUSY_VCPU))
    found = diagnose(report(disk_with(held(None, 1)), threads=threads))
    assert found.verdict.state == "unknown"
    assert [each.severity for each in findings(found)] == ["warning"]


def throttled(*, limits: dict[str, int], age: float | None = None) -> Any:
    """Return a report of one request of 4096 bytes that a limit holds back."""
    from msgspec.structs import replace

    from tests.diagnose.builders import block
    from vringcore.model.block import ThrottleGroup, ThrottleMember, ThrottleTimer
    from vringcore.model.requests import BlockRequest

    timers = (ThrottleTimer("reads", None), ThrottleTimer("writes", 10))
    member = ThrottleMember(Address(0x7F1000000001), "nbd0", (0, 1), 0, timers)
    group = ThrottleGroup(Address(2), "slow", (False, True), (), limits, (member,))
    waits = request("throttle", "among the writes that a limit holds back", head=1, age=age)
    write = BlockRequest("virtio-blk", Address(1), "write", 1, 64, 4096, 0)
    disk = disk_with(replace(waits, request=write))
    return report(disk, threads=asleep(), block=block(throttle_groups=(group,)))


def test_a_limit_that_works_is_told_and_is_no_alarm() -> None:
    found = diagnose(throttled(limits={"bps-total": 1_000_000}))
    assert found.verdict.state == "healthy"
    assert (
        "held back by the I/O limit of node nbd0 (bps-total 1000000 a second)"
        in found.verdict.summary
    )


def test_a_limit_so_low_that_nothing_moves_is_what_is_stuck() -> None:
    for held_back in (throttled(limits={"bps-total": 1}), throttled(limits={}, age=9)):
        found = diagnose(held_back)
        assert (found.verdict.state, found.verdict.code) == ("stuck", "throttled")
        assert finding(found, "throttled").confidence == "high"


def blocked_main_loop(*vcpu: str, waiters: tuple[int, ...] = ()) -> Any:
    """Return a report of a main loop that reads a file, and of a vCPU with this stack."""
    main = _in_call(thread(MAIN, "main-loop", "pread64", "raw_probe_alignment", "main_loop_wait"))
    locks = (lock(0x1000, "BQL", MAIN, *waiters),)
    return report(device(queue()), threads=(main, thread(VCPU, "vcpu", *vcpu)), locks=locks)


def test_a_main_loop_that_reads_a_file_is_an_alarm_once_others_wait_for_it() -> None:
    code = "main-loop-blocked-with-bql"
    taking = ("futex_wait", "lll_lock_wait", "pthread_mutex_lock", "bql_lock_impl")
    waited_for = finding(blocked_main_loop(*taking, waiters=(VCPU,)), code)
    assert (waited_for.severity, waited_for.confidence) == ("stuck", "medium")
    alone = finding(blocked_main_loop(*BUSY_VCPU), code)
    assert (alone.severity, alone.confidence) == ("warning", "low")


def test_a_masked_vector_holds_back_completions_unless_the_guest_is_at_work() -> None:
    vector = MsixVector(1, Address(0xFEE00000), 0, True, False, ("0",))
    interrupts = Interrupts(0, "msix", False, 0, (vector,))
    machine = Machine("running", "tcg", (), (), (interrupts,), 0)
    unread = device(queue(used_event=996))
    idle = report(unread, threads=asleep(), machine=machine)
    assert finding(idle, "interrupt-masked").severity == "stuck"
    assert "vector 1 is masked" in finding(idle, "interrupt-masked").summary
    busy = report(unread, threads=(thread(VCPU, "vcpu", *BUSY_VCPU),), machine=machine)
    assert codes(busy, *ALARMS) == set()
