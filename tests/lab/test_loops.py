"""Event loops as gdb has them, and every queue's ioeventfd in the loop that watches it."""

from __future__ import annotations

import select
from typing import Any

import pytest

from tests.cli.command import vringcore
from tests.cores import has_devices, lab_cores, was_asked
from tests.lab.around import loop_cores, truth_of
from tests.lab.cases import CoreCase
from vringcore.model.devices import Backend, Device
from vringcore.model.loops import BottomHalf, EventLoop, Handler, Timer

FDMON = {"poll": "fdmon_poll_ops", "epoll": "fdmon_epoll_ops", "io-uring": "fdmon_io_uring_ops"}
CLOCKS = ["realtime", "virtual", "host", "virtual-rt"]
FLAGS = {"pending": 1, "scheduled": 2, "deleted": 4, "oneshot": 8, "idle": 16}


def loops_of(core: CoreCase) -> tuple[EventLoop, ...]:
    with core.open() as opened:
        report = opened.report({"event-loops"})
    assert not report.limits
    assert isinstance(report.event_loops, tuple)
    return report.event_loops


@pytest.fixture(scope="module", params=loop_cores())
def case(
    request: pytest.FixtureRequest,
) -> tuple[tuple[EventLoop, ...], list[dict[str, Any]]]:
    return loops_of(request.param), truth_of(request.param)["event_loops"]


Case = tuple[tuple[EventLoop, ...], list[dict[str, Any]]]


def pairs(case: Case) -> list[tuple[EventLoop, dict[str, Any]]]:
    loops, truth = case
    by_address = {int(loop.address): loop for loop in loops}
    assert set(by_address) == {each["address"] for each in truth}
    return [(by_address[each["address"]], each) for each in truth]


def test_loops_and_their_threads(case: Case) -> None:
    for loop, truth in pairs(case):
        assert loop.lwp == truth["lwp"]
        assert isinstance(loop.waits_by, str)
        assert FDMON[loop.waits_by] == truth["fdmon_ops"]
        assert loop.polling == truth["poll_started"]
        assert loop.poll_max_ns == truth["poll_max_ns"]
        assert loop.notify_me == truth["notify_me"]
        assert loop.notified == truth["notified"]
        assert loop.external_disabled == truth["external_disable_cnt"]
        assert list(loop.scheduled) == truth["scheduled"]


def test_the_main_loop_has_two(case: Case) -> None:
    (main, first), (iohandler, second) = pairs(case)[:2]
    assert (main.name, iohandler.name) == ("main", "iohandler")
    assert first["lwp"] == second["lwp"] == main.lwp


def as_gdb(handler: Handler) -> dict[str, Any]:
    return {
        "address": handler.address,
        "fd": handler.fd,
        "events": sum(getattr(select, f"POLL{name.upper()}") for name in handler.events),
        "io_read": handler.read,
        "io_write": handler.write,
        "io_poll": handler.poll,
        "opaque": handler.opaque,
        "polled": handler.polled,
        "is_external": handler.external,
    }


def test_handlers(case: Case) -> None:
    for loop, truth in pairs(case):
        disabled = truth["external_disable_cnt"] or 0
        live = [
            bool(each["events"])
            and not each["deleted"]
            and not (each["is_external"] and disabled > 0)
            for each in truth["handlers"]
        ]
        assert [handler.live for handler in loop.handlers] == live
        expected = [{k: v for k, v in h.items() if k != "deleted"} for h in truth["handlers"]]
        assert [as_gdb(handler) for handler in loop.handlers] == expected


def half_as_gdb(half: BottomHalf) -> dict[str, Any]:
    flags = sum(FLAGS[flag] for flag in half.flags)
    return {
        "address": half.address,
        "name": half.name,
        "cb": half.callback,
        "opaque": half.opaque,
        "flags": flags,
    }


def test_bottom_halves(case: Case) -> None:
    for loop, truth in pairs(case):
        halves = tuple(loop.bottom_halves)
        assert [half_as_gdb(half) for half in halves if not half.taken] == truth["bottom_halves"]
        assert [half_as_gdb(half) for half in halves if half.taken] == truth["taken"]


def timer_as_gdb(timer: Timer) -> dict[str, Any]:
    return {
        "address": timer.address,
        "clock": CLOCKS.index(timer.clock),
        "expire_time": timer.expires_ns,
        "cb": timer.callback,
        "opaque": timer.opaque,
    }


def test_timers(case: Case) -> None:
    for loop, truth in pairs(case):
        assert [timer_as_gdb(timer) for timer in loop.timers] == truth["timers"]


def test_every_loop_watches_its_own_notifier(case: Case) -> None:
    for loop in case[0]:
        own = [h for h in loop.handlers if h.read == "aio_context_notifier_cb"]
        assert [h.owner for h in own] == [f"wake-ups of the event loop {loop.name} (eventfd)"]


ASKED = lab_cores(lambda core: has_devices(core) and was_asked(core) and core.while_alive)


@pytest.mark.parametrize("core", ASKED)
def test_iothreads_are_those_of_the_monitor(core: CoreCase) -> None:
    said = {each["id"]: each for each in core.case.qmp_before["query-iothreads"]}
    loops = {loop.name: loop for loop in loops_of(core)}
    assert set(loops) == {"main", "iohandler", "mon_iothread", *said}
    for name, each in said.items():
        assert loops[name].lwp == each["thread-id"]
        assert loops[name].poll_max_ns == each["poll-max-ns"]


RESET = ("stuck-reset", "guest-reset")


def stopping(core: CoreCase) -> bool:
    """A VM that is being stopped or reset: handlers of devices are taken away one after another."""
    state: str = core.gdb["state"]["run_state"]["name"]
    return state != "RUN_STATE_RUNNING" or core.case.scenario in RESET


@pytest.mark.parametrize("core", lab_cores(has_devices))
def test_every_ioeventfd_is_watched_by_one_loop(core: CoreCase) -> None:
    """By gdb's record of each queue: its ioeventfd is enabled, and has this descriptor."""
    with core.open() as opened:
        report = opened.report({"event-loops", "devices"})
    assert isinstance(report.event_loops, tuple)
    assert isinstance(report.devices, tuple)
    watched: dict[tuple[int, int], list[Handler]] = {}
    for loop in report.event_loops:
        for handler in loop.handlers:
            if handler.queue is not None and handler.queue.side == "host-notifier":
                key = (handler.queue.device, handler.queue.queue)
                watched.setdefault(key, []).append(handler)
    truths = {each["address"]: each for each in core.gdb["devices"]}
    for device in report.devices:
        for number, queue in enumerate(truths[int(device.address)]["queues"]):
            found = watched.pop((device.index, number), [])
            fields = queue["fields"]
            assert all(handler.fd == fields["host_notifier.rfd"] for handler in found)
            if not fields["host_notifier_enabled"] or device.ring_owner != "qemu":
                # The device runs none, or a vhost back-end has the descriptors.
                assert not found
            elif is_drained(device) and has_no_external(report.event_loops):
                # Newer devices take their handlers away for as long as the drained section lasts,
                # those of virtio-scsi where an I/O thread runs them: the main loop that drains has
                # its own handlers, and does not come to them.
                stays = device.kind == "virtio-scsi" and device.iothread is None
                assert [handler.live for handler in found] == [False] * stays
            elif not stopping(core):
                assert [handler.live for handler in found] == [not is_drained(device)]
    assert not watched


def is_drained(device: Device) -> bool:
    disks = device.disks if isinstance(device.disks, tuple) else ()
    backends = (device.backend, *(disk.backend for disk in disks))
    return any(isinstance(each, Backend) and bool(each.quiesce_counter) for each in backends)


def has_no_external(loops: tuple[EventLoop, ...]) -> bool:
    return all(loop.external_disabled is None for loop in loops)


@pytest.mark.parametrize("core", lab_cores(has_devices))
def test_interrupts_watched_are_of_queues_that_have_an_eventfd(core: CoreCase) -> None:
    truths = list(core.gdb["devices"])
    with core.open() as opened:
        report = opened.report({"event-loops", "devices"})
    assert isinstance(report.event_loops, tuple)
    assert isinstance(report.devices, tuple)
    by_index = {each.index: int(each.address) for each in report.devices}
    for loop in report.event_loops:
        for handler in loop.handlers:
            if handler.queue is None or handler.queue.side != "guest-notifier":
                continue
            truth = next(
                each for each in truths if each["address"] == by_index[handler.queue.device]
            )
            fields = truth["queues"][handler.queue.queue]["fields"]
            assert fields["guest_notifier.rfd"] == handler.fd
            assert handler.read == "virtio_queue_guest_notifier_read"


@pytest.mark.parametrize("core", lab_cores(lambda core: core.case.scenario == "nine-devices"))
def test_the_verb_shows_them(core: CoreCase) -> None:
    run = vringcore("loops", str(core.path), "-e", str(core.case.executable), "--no-cache")
    assert (run.returncode, run.stderr) == (0, "")
    assert "  kicks of queues 0 to 63 of console0 (eventfd)" in run.stdout
    assert "event loop mon_iothread, thread " in run.stdout
    assert "  run state    running" in run.stdout
