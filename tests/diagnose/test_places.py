"""Queues in other event loops, kicks owed, encrypted memory, lines not served, engines."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.diagnose.builders import (
    ALARMS,
    BUSY_VCPU,
    IO_LOOP,
    IOTHREAD,
    VCPU,
    asleep,
    backend,
    backend_state,
    block,
    codes,
    device,
    finding,
    findings,
    loop,
    queue,
    report,
    request,
    thread,
)
from vringcore.diagnose.engine import diagnose
from vringcore.diagnose.words import short_server
from vringcore.model.block import Engine
from vringcore.model.loops import BottomHalf
from vringcore.model.machine import Interrupts, Machine, Migration
from vringcore.model.queues import Counts, EventSuppression, PackedGuest, SplitGuest
from vringcore.model.report import Report
from vringcore.model.requests import (
    Descriptor,
    DeviceRequest,
    InFlight,
    Waiting,
    WorkerThread,
)
from vringcore.model.values import Address

ELSEWHERE = Address(0x5640E3151111)

IN_ANOTHER = "queue-in-another-loop"


def in_loops(*, of_disk: Address, old: bool = True, **members: Any) -> Report:
    """Return a disk whose kicks the I/O thread serves, the disk itself in an event loop."""
    disk = backend()
    state = backend_state(disk, event_loop=of_disk)
    home = loop(external_disabled=0 if old else None)
    return report(
        device(queue(), backend=disk, **members),
        threads=asleep(),
        event_loops=(home,),
        block=block(backends=(state,)),
    )


def test_a_queue_in_another_event_loop_than_its_disk() -> None:
    told = finding(in_loops(of_disk=ELSEWHERE), IN_ANOTHER)
    assert (told.severity, told.confidence) == ("warning", "medium")
    newer = finding(in_loops(of_disk=ELSEWHERE, old=False), IN_ANOTHER)
    assert (newer.severity, newer.confidence) == ("note", "low")


@pytest.mark.parametrize("members", [{}, {"queue_iothreads": ("io0", "io1")}])
def test_a_queue_in_the_event_loop_that_it_belongs_in_is_well(members: dict[str, Any]) -> None:
    home = ELSEWHERE if members else IO_LOOP
    assert codes(in_loops(of_disk=home, **members)) == set()


def test_a_queue_for_control_may_be_served_elsewhere() -> None:
    disk = backend()
    found = report(
        device(queue(role="control"), backend=disk, kind="virtio-scsi"),
        threads=asleep(),
        event_loops=(loop(),),
        block=block(backends=(backend_state(disk, event_loop=ELSEWHERE),)),
    )
    assert codes(found) == set()


def machine(**members: Any) -> Machine:
    """Return a machine that runs."""
    values: dict[str, Any] = {
        "run_state": "running",
        "accelerator": "kvm",
        "vcpus": (),
        "migrations": (),
        "interrupts": (),
        "newest_time_ns": 0,
    }
    return Machine(**{**values, **members})


ARRIVED = Migration("incoming", "completed", None, None, None)


def test_a_kick_that_was_given_on_the_source() -> None:
    waiting = queue(avail=1003, last_avail=1000, signalled_used_valid=False)
    parts: dict[str, Any] = {"threads": asleep(), "event_loops": (loop(),)}
    moved = report(device(waiting), machine=machine(migrations=(ARRIVED,)), **parts)
    told = finding(moved, "kick-owed-since-load")
    assert (told.severity, told.confidence) == ("warning", "low")
    stayed = report(device(waiting), machine=machine(), **parts)
    assert "kick-owed-since-load" not in codes(stayed)
    served = replace(waiting, signalled_used_valid=True)
    done = report(device(served), machine=machine(migrations=(ARRIVED,)), **parts)
    assert "kick-owed-since-load" not in codes(done)


NOISE = SplitGuest(0x9C41, 0x7E12, 0x33D0, 0xA5F7, 0x1B2C, 0x4F4E)


def scrambled(**members: Any) -> Report:
    """Return a disk at rest whose ring reads as noise."""
    counts = Counts((0x9C41 - 1000) % 65536, 0, 0, 0, 0, 5)
    noise = queue(guest=NOISE, counts=counts)
    return report(device(noise, **members), threads=asleep(), event_loops=(loop(),))


def test_encrypted_memory_is_not_judged() -> None:
    found = scrambled()
    told = finding(found, "guest-memory-encrypted")
    assert (told.severity, told.confidence) == ("note", "medium")
    assert codes(found, *ALARMS) == set()
    verdict = diagnose(found).verdict
    assert verdict.state == "unknown"
    assert "encrypted" in verdict.summary
    assert any("encrypted" in each for each in verdict.unchecked)


def test_a_confidential_guest_is_named() -> None:
    plain = scrambled()
    options = ("qemu", "-object", "sev-guest,id=sev0,cbitpos=51")
    told = finding(
        replace(plain, qemu=replace(plain.qemu, command_line=options)), "guest-memory-encrypted"
    )
    assert told.confidence == "high"
    assert told.evidence[-1].value == "sev-guest"


def test_a_confidential_guests_rings_that_can_be_read_are_judged() -> None:
    plain = report(
        device(queue(avail=1003, last_avail=1000)), threads=asleep(), event_loops=(loop(),)
    )
    options = ("qemu", "-object", "sev-guest,id=sev0")
    found = replace(plain, qemu=replace(plain.qemu, command_line=options))
    assert codes(found, "stuck") == {"kick-not-seen"}


def test_an_index_that_is_corrupt_is_not_taken_for_encryption() -> None:
    counts = Counts(50000, 0, 0, 0, 0, 0)
    guest = SplitGuest(51000, 0, 1000, 0, 1000, 1000)
    found = report(device(queue(guest=guest, counts=counts)), threads=asleep())
    assert codes(found) >= {"avail-index-corrupt"}
    assert "guest-memory-encrypted" not in codes(found)


def by_line(**members: Any) -> Report:
    """Return a disk that interrupts by INTx, with 3 completions that wait."""
    values: dict[str, Any] = {"line_raised": True, "line_disabled": False, "isr": 1}
    line = Interrupts(0, "intx", function_masked=None, vectors=(), **{**values, **members})
    return report(
        device(queue(used_event=997)), threads=asleep(), machine=machine(interrupts=(line,))
    )


def test_an_interrupt_line_that_is_not_served() -> None:
    told = finding(by_line(), "interrupt-line-not-served")
    assert (told.severity, told.confidence) == ("warning", "low")


@pytest.mark.parametrize(
    "members", [{"line_raised": False}, {"isr": 2}, {"line_disabled": True}], ids=str
)
def test_a_line_that_is_down_or_off_is_another_matter(members: dict[str, Any]) -> None:
    assert "interrupt-line-not-served" not in codes(by_line(**members))


def test_completions_of_a_packed_ring_wait_for_a_guest_at_rest() -> None:
    event = EventSuppression(0x8005, 5, True, 2, "desc")
    ring = queue(ring="packed", guest=PackedGuest(event, event), counts=Counts(0, 0, 0, 0, 0, 12))
    told = finding(report(device(ring), threads=asleep()), "completions-not-seen-by-driver")
    assert told.severity == "warning"
    busy = (*asleep()[:2], thread(VCPU, "vcpu", *BUSY_VCPU))
    assert codes(report(device(ring), threads=busy), *ALARMS) == set()


def aio(**members: Any) -> Engine:
    """Return linux-aio with one completion that was taken and not handed on."""
    values: dict[str, Any] = {"blocked": False, "plugged": 0, "unprocessed": 1}
    return Engine("linux-aio", Address(0x300), IO_LOOP, 1, 0, **{**values, **members})


def with_engine(engine: Engine, **parts: Any) -> Report:
    """Return a VM at rest with an engine."""
    values: dict[str, Any] = {"threads": asleep(), "event_loops": (loop(),)}
    return report(device(queue()), block=block(engines=(engine,)), **{**values, **parts})


def test_completions_of_linux_aio_that_were_not_handed_on() -> None:
    told = finding(with_engine(aio()), "completion-not-handed-on")
    assert (told.severity, told.confidence) == ("stuck", "medium")
    scheduled = BottomHalf(Address(1), None, "qemu_laio_completion_bh", Address(2), ("scheduled",))
    later = with_engine(aio(), event_loops=(loop(bottom_halves=(scheduled,), notified=True),))
    assert codes(later) == set()
    assert codes(with_engine(aio(unprocessed=0))) == set()
    busy = thread(IOTHREAD, "iothread", "qemu_laio_process_completions", "aio_poll")
    assert codes(with_engine(aio(), threads=(asleep()[0], busy))) == set()


def left(**members: Any) -> Report:
    """Return a disk with a request in the queue of a drained section that has ended."""
    disk = backend(quiesced=members.pop("quiesced", 0))
    states = (backend_state(disk, queued=(Address(0x500),)),)
    values: dict[str, Any] = {"threads": asleep(), "event_loops": (loop(),)}
    return report(
        device(queue(), backend=disk), block=block(backends=states), **{**values, **members}
    )


def test_a_request_that_a_drained_section_left_behind() -> None:
    told = finding(with_requests(left()), "request-left-by-drain")
    assert (told.severity, told.confidence) == ("stuck", "medium")
    for well in (left(quiesced=1), left(event_loops=(loop(scheduled=(Address(0x500),)),))):
        assert "request-left-by-drain" not in codes(with_requests(well))


def with_requests(found: Report) -> Report:
    """Return a report whose requests were asked for."""
    assert isinstance(found.devices, tuple)
    (only,) = found.devices
    assert isinstance(only.queues, tuple)
    queues = tuple(replace(each, in_flight=()) for each in only.queues)
    return replace(found, devices=(replace(only, queues=queues),))


def reads_into(head: int, address: int) -> InFlight:
    """Return a read into 4096 bytes of guest memory."""
    buffer = Descriptor(head, Address(address), 4096, 2, flag_names=("write",))
    return replace(request("nbd", head=head), descriptors=(buffer,))


def test_two_reads_into_one_buffer_are_a_note() -> None:
    def both(first: int, second: int) -> Report:
        reads = (reads_into(3, first), reads_into(9, second))
        return report(device(queue(inuse=2, in_flight=reads)), threads=asleep())

    told = finding(both(0x7000, 0x7800), "writable-buffers-overlap")
    assert (told.severity, told.confidence) == ("note", "low")
    assert "heads 3 and 9" in told.summary
    assert "writable-buffers-overlap" not in codes(both(0x7000, 0x8000))


def test_a_request_of_another_device_shows_where_its_head_is() -> None:
    held = DeviceRequest(
        kind="virtio-scsi",
        address=Address(0x900),
        c_type="VirtIOSCSIReq",
        element=Address(0x908),
        length=4096,
        operation="read(10)",
        header={},
        lengths={},
    )
    sent = replace(request("nbd", "slot 0; sent, waits for the reply", age=9), request=held)
    busy = device(queue(inuse=1, in_flight=(sent,)), kind="virtio-scsi")
    told = finding(report(busy, threads=asleep()), "request-not-answered-by-nbd-server")
    assert "((VirtQueueElement *)0x908)->index" in [each.c_path for each in told.evidence]


def given(kind: str, place: str, *, behind: int, works: bool = False) -> Report:
    """Return a device whose back-end takes no more, with requests published behind the first."""
    threads = (*asleep()[:2], thread(VCPU, "vcpu", *BUSY_VCPU)) if works else asleep()
    sending = queue(
        avail=1000 + behind, last_avail=1000, inuse=1, role="tx1", in_flight=(request(place),)
    )
    home = loop(watched=(0,))
    return report(device(sending, kind=kind), threads=threads, event_loops=(home,))


@pytest.mark.parametrize(
    ("kind", "place", "behind", "severity"),
    [
        ("virtio-net", "net-peer", 200, "stuck"),
        ("virtio-net", "net-peer", 3, "note"),
        ("virtio-serial", "chardev", 255, "warning"),
        ("virtio-serial", "chardev", 40, "note"),
        ("virtio-9p", "plan9", 255, "note"),
    ],
)
def test_a_back_end_that_takes_no_more(kind: str, place: str, behind: int, severity: str) -> None:
    found = given(kind, place, behind=behind)
    told = finding(found, "request-held-by-peer")
    assert told.severity == severity
    assert f"with {behind} more in the queue" in told.summary
    assert finding(given(kind, place, behind=behind, works=True), told.code).severity == "note"
    # That QEMU takes no more is no kick that was lost.
    assert ("kick-not-seen" in codes(found)) == (place == "plan9")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("nbd+unix://?socket=/tmp/vm/a/long/way/server0.nbd", "server0.nbd"),
        ("nbd+unix:///export?socket=server1.nbd", "server1.nbd"),
        ("nbd://storage.example:10809/disk7", "storage.example:10809"),
        ("/dev/disk/by-id/image.raw", "image.raw"),
        ("", ""),
        ("nbd://" + "x" * 90, "x" * 39 + "…"),
    ],
)
def test_a_server_has_a_short_name_in_a_sentence(url: str, name: str) -> None:
    assert short_server(url) == name


@pytest.mark.parametrize(
    ("vcpu", "severity"),
    [
        (("qemu_cond_wait_impl", "qemu_wait_io_event", "mttcg_cpu_thread_fn"), "stuck"),
        (("qemu_cond_wait_impl", "qemu_process_cpu_events", "mttcg_cpu_thread_fn"), "stuck"),
        (BUSY_VCPU, "warning"),
    ],
)
def test_a_message_in_a_call_that_does_not_return_while_the_guest_waits_or_works(
    vcpu: tuple[str, ...], severity: str
) -> None:
    """Nothing tells its age; since 10.2 a vCPU waits in a function of another name."""
    called = Waiting("thread-pool", Address(0x20), thread=WorkerThread(7, "preadv", 18))
    message = request("plan9")
    message = replace(message, waits_in=(*message.waits_in, called))
    share = device(queue(avail=1, inuse=1, in_flight=(message,)), kind="virtio-9p")
    found = report(share, threads=(*asleep()[:-1], thread(VCPU, "vcpu", *vcpu)))
    [said] = [each for each in findings(found) if each.code == "request-not-returned-by-kernel"]
    assert said.severity == severity
    assert said.threads == (7,)
