"""Text for people: nothing cut, nothing invented, nothing that steers the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.cli.command import ROOT, vringcore
from tests.cores import lab_cores
from tests.lab.cases import CoreCase
from tests.report import samples
from tests.report.strategies import any_of
from vringcore.model.queues import Counts, SplitGuest
from vringcore.model.report import Report, RingDocument
from vringcore.model.requests import InFlight, Waiting, WorkerThread
from vringcore.model.rings import AvailEntry
from vringcore.model.values import Absent, Address
from vringcore.report.devices import print_devices
from vringcore.report.page import Page, column_of
from vringcore.report.queues import print_queues
from vringcore.report.requests import print_requests
from vringcore.report.ring import print_ring
from vringcore.report.text import render

PRINTERS: list[Callable[..., None]] = [print_devices, print_queues, print_requests]
WIDTHS = st.sampled_from([None, 20, 40, 80, 140, 300])


def text(
    printer: Callable[..., None],
    document: Any,
    *,
    width: int | None = None,
    detailed: bool = False,
    color: bool = False,
) -> str:
    def write(page: Page) -> None:
        printer(page, document, detailed=detailed)

    return render(write, width=width, color=color)


def rows(printed: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines() if line.strip()]


@pytest.mark.parametrize("printer", PRINTERS)
@given(report=any_of(Report), width=WIDTHS, detailed=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_report_can_be_printed(
    printer: Callable[..., None], report: Report, width: int | None, detailed: bool
) -> None:
    printed = text(printer, report, width=width, detailed=detailed)
    assert all(line.isprintable() for line in printed.split("\n"))


@given(ring=any_of(RingDocument), width=WIDTHS, detailed=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_ring_can_be_printed(ring: RingDocument, width: int | None, detailed: bool) -> None:
    printed = text(print_ring, ring, width=width, detailed=detailed)
    assert all(line.isprintable() for line in printed.split("\n"))


def test_nothing_that_is_printed_steers_the_terminal() -> None:
    """Whatever way a text takes: what the guest wrote into a buffer is text, too."""

    def write(page: Page) -> None:
        page.header("\x1b[2J header")
        page.line("\x1b[31mred\u202e", indent=2)
        page.line("name: \x1b]0;title\x07 " + "word " * 20, hang=6)
        page.listing([("\x1b[1m", "\r\n\x9b2J")])
        page.table([column_of("\x1b[7m", ["\x1b[5m", Absent("\x1b[6m", hint="\x07")])])
        page.close([])

    for width in (None, 40):
        printed = render(write, width=width, color=False)
        assert all(line.isprintable() for line in printed.split("\n"))
        assert {r"\x1b[2J header", r"\x1b[31mred\u202e"} <= {x.strip() for x in printed.split("\n")}


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("printer", PRINTERS)
def test_lines_fit_the_terminal(printer: Callable[..., None], width: int) -> None:
    printed = text(printer, samples.REPORT, width=width)
    assert max(len(line) for line in printed.splitlines()) <= width
    assert "…" not in printed


def test_left_out_columns_are_counted_and_named() -> None:
    narrow = text(print_queues, samples.REPORT, width=80)
    assert re.search(r"note: \d+ columns left out at this width: \w+", narrow)
    assert "left out" not in text(print_queues, samples.REPORT)


def test_a_pipe_gets_one_line_per_queue_with_every_column() -> None:
    printed = text(print_queues, samples.REPORT)
    header = next(line for line in printed.splitlines() if line.lstrip().startswith("device"))
    for name in ("avail.idx", "last_avail_idx", "used_event", "handle_output", "signalled_used"):
        assert name in header.split()
    assert sum("virtio-" in line for line in printed.splitlines()) == 6


def test_outstanding_requests_are_marked_and_filled_queues_are_not() -> None:
    printed = text(print_queues, samples.REPORT)
    marked = [row[1:4] for row in rows(printed) if row[0] == ">" and row[1] != "has"]
    assert marked == [["disk0", "virtio-blk", "1"], ["disk0", "virtio-blk", "2"]]
    assert "unseen is normal there" in printed


def test_outstanding_requests_are_coloured() -> None:
    colored = text(print_queues, samples.REPORT, color=True)
    busy = next(line for line in colored.split("\n") if re.search(r"disk0.*\b46481\b", line))
    idle = next(line for line in colored.split("\n") if "46479" in line)
    assert "\x1b[1;33m" in busy
    assert "\x1b[1;33m" not in idle


def test_an_absent_value_is_neither_zero_nor_blank() -> None:
    printed = text(print_queues, samples.REPORT)
    lost = next(line for line in printed.splitlines() if "disk2" in line)
    assert lost.count("absent[1]") == 8  # six members of the guest's, unseen, past_used_event
    assert "[1] absent: not-dumped (first at 0x7f0012345000) - set dump-guest-core=on" in printed
    assert "[2] absent: not-in-this-build" in printed


def test_a_footnote_is_only_there_for_a_value_that_is_shown() -> None:
    narrow = text(print_queues, samples.REPORT, width=80)
    assert "[1] absent: not-dumped" in narrow
    assert "not-in-this-build" not in narrow  # handle_output is left out at this width


def test_numbers_stand_under_their_own_names() -> None:
    printed = text(print_queues, samples.REPORT)
    lines = printed.splitlines()
    at = next(i for i, line in enumerate(lines) if line.lstrip().startswith("device"))
    names, busy = lines[at].split(), lines[at + 2].split()[1:]
    values = dict(zip(names, busy, strict=True))
    expected = {"avail.idx": "46481", "last_avail_idx": "46481", "used_idx": "46479"}
    expected |= {"used_event": "46478", "unseen": "0", "inuse": "2", "past_used_event": "1"}
    assert expected.items() <= values.items()


def test_queues_never_used_are_one_line_on_a_terminal() -> None:
    idle = structs.replace(
        samples.queue(0), last_avail_idx=0, used_idx=0, guest=SplitGuest(0, 0, 0, 0, 0, 0)
    )
    queues = tuple(structs.replace(idle, index=index) for index in (1, 2, 3, 5))
    device = structs.replace(samples.DISK, queues=(samples.queue(0), *queues))
    report = structs.replace(samples.REPORT, devices=(device,))
    short = text(print_queues, report, width=120)
    assert "never used, all indices 0 (-v shows them): queues disk0 1-3 5" in short
    assert sum(line.lstrip().startswith("disk0 ") for line in short.splitlines()) == 1
    for whole in (text(print_queues, report), text(print_queues, report, width=80, detailed=True)):
        assert "never used" not in whole


def test_vhost_rings_are_called_stale() -> None:
    printed = text(print_queues, samples.VHOST_REPORT)
    lines = printed.splitlines()
    at = next(i for i, line in enumerate(lines) if "last_avail_idx" in line)
    names = lines[at].split()
    values = dict(zip(names, _after_mark(lines[at + 1]), strict=True))
    assert values["ring_owner"] == "vhost-kernel"
    assert values["last_avail_idx"] == values["inuse"] == "(0)"
    assert values["outstanding"] == "5"
    assert "says nothing about now" in printed


def _after_mark(line: str) -> list[str]:
    assert line.startswith(">")
    return line[1:].split()


def test_queues_without_guest_and_counts_have_no_such_columns() -> None:
    device = structs.replace(samples.DISK, queues=(samples.QUEUE_WITHOUT_COUNTS,))
    printed = text(print_queues, structs.replace(samples.REPORT, devices=(device,)))
    assert "avail.idx" not in printed
    assert "unseen" not in printed
    assert "inuse" in printed


def test_detailed_queues_list_every_member() -> None:
    printed = text(print_queues, samples.REPORT, detailed=True)
    for line in (
        r"vring\.num +256",
        r"vring\.desc +0x3ff0000",
        r"handle_output +0x55c3a0312345 <virtio_blk_handle_output>",
        r"kind +KIND_TWO \(2\)",
        r"padding +\{0 x 3, 7\}",
        r"node\.le_next +absent\[1\]",
        r"node\.le_prev +0x55c3a2222222 <table\+8>",
    ):
        assert re.search(line, printed), line


def test_devices_show_place_and_back_end() -> None:
    printed = text(print_devices, samples.REPORT)
    disk = next(line for line in printed.splitlines() if "disk0" in line)
    for part in (
        "pci 0000:00:00.0",
        "SERIAL0",
        "qemu",
        "DRIVER_OK",
        "io0",
        "nbd0 nbd ",
        " nbd+unix",
    ):
        assert part in disk


def test_a_broken_device_is_told() -> None:
    broken = structs.replace(samples.DISK, broken=True)
    report = structs.replace(samples.REPORT, devices=(broken,))
    assert "DRIVER_OK BROKEN" in text(print_devices, report)
    assert "broken, QEMU serves it no more" in text(print_queues, report)


def test_detailed_devices_name_features() -> None:
    printed = text(print_devices, samples.REPORT, detailed=True)
    assert re.search(r"host_features +0x130006e54 VIRTIO_BLK_F_SEG_MAX bit 40", printed)
    assert re.search(r"found by +virtio_list, qom-tree", printed)


def test_requests_say_what_and_where() -> None:
    printed = text(print_requests, samples.REPORT)
    row = next(line for line in printed.splitlines() if line.startswith("disk0"))
    for part in ("12", "write", "2048", "64 KiB", ">= 15.2 s", "nbd0: tracked-request > nbd"):
        assert part in row


def test_unidentified_requests_are_counted() -> None:
    queue = samples.queue(1, inuse=2)
    assert isinstance(queue.counts, Counts)
    counts = structs.replace(queue.counts, unidentified=1)
    device = structs.replace(samples.DISK, queues=(structs.replace(queue, counts=counts),))
    printed = text(print_requests, structs.replace(samples.REPORT, devices=(device,)))
    assert "disk0 queue 1: 1 of 2 in use were not identified" in printed


def test_detailed_requests_list_buffers_and_descriptors() -> None:
    printed = text(print_requests, samples.REPORT, detailed=True)
    assert "write of 64 KiB at sector 2048" in printed
    assert re.search(r"buffer 0 +0x7f2bd3a00000, 64 KiB", printed)
    assert re.search(r"descriptor 13 +guest address 0x3a00000, 64 KiB, flags next", printed)
    assert re.search(r"waits in nbd +node nbd0, slot 0, at 0x55c3a1234000", printed)


def with_request(request: InFlight) -> Report:
    """Return the sample's first device with one request in flight."""
    queue = structs.replace(samples.queue(0), in_flight=(request,))
    device = structs.replace(samples.DISK, queues=(queue,))
    return structs.replace(samples.REPORT, devices=(device,))


def test_a_request_of_another_device_is_told_in_one_line() -> None:
    printed = text(print_requests, with_request(samples.DEVICE_IN_FLIGHT))
    row = next(line for line in printed.splitlines() if line.startswith("disk0"))
    for part in ("read(10) target 0 lun 0 lba 64 blocks 8", "4 KiB", ">= 15.2 s"):
        assert part in row
    assert "sector" not in printed


def test_a_detailed_request_of_another_device_has_header_and_qemus_own() -> None:
    printed = text(print_requests, with_request(samples.DEVICE_IN_FLIGHT), detailed=True)
    for part in (
        r"VirtIOSCSIReq +0x7f2be4001b30",
        r"task_attr +0 \(simple\)",
        r"lengths in bytes +header 51, readable 51, writable 4204",
        r"QEMU's sreq +0x55c3a1234000",
        r"QEMU's SCSIRequest +tag 7, enqueued true",
        r"buffer from the device 0 +0x7f2bd3a00000, 4 KiB",
    ):
        assert re.search(part, printed), part
    assert "guest data" not in printed


def test_a_header_that_is_not_there_says_why() -> None:
    lost = structs.replace(samples.DEVICE_REQUEST, header=samples.LOST)
    report = with_request(structs.replace(samples.DEVICE_IN_FLIGHT, request=lost))
    assert re.search(
        r"header +not-dumped at 0x7f0012345000", text(print_requests, report, detailed=True)
    )


@pytest.mark.parametrize("detailed", [False, True])
def test_guest_data_is_shown_with_a_warning(detailed: bool) -> None:
    report = with_request(structs.replace(samples.DEVICE_IN_FLIGHT, payload="00ff"))
    printed = text(print_requests, report, detailed=detailed)
    assert re.search(r"(guest data|head 3) +00ff", printed)
    assert "it may be secret" in printed


@pytest.mark.parametrize(
    ("thread", "said"),
    [
        (WorkerThread(1234, "fdatasync", 11), "thread 1234 in fdatasync of fd 11, at 0x10"),
        (
            WorkerThread(1234, "pread64", 11, offset=4096, result=512),
            "thread 1234 has got 512 from pread64 of fd 11 at 4096, at 0x10",
        ),
        (
            WorkerThread(1234, "preadv", 11, "worker", "D", "/dev/sdb", 0),
            "thread 1234 (worker, state D) in preadv of fd 11 (/dev/sdb) at 0, at 0x10",
        ),
    ],
)
def test_detailed_requests_name_the_thread_that_serves_them(
    thread: WorkerThread, said: str
) -> None:
    waiting = Waiting("thread-pool", Address(16), "file0", "active in a worker thread", thread)
    request = structs.replace(samples.REQUEST, waits_in=(waiting,))
    queue = structs.replace(samples.queue(0), in_flight=(request,))
    device = structs.replace(samples.REPORT.devices[0], queues=(queue,))  # type: ignore[index]
    report = structs.replace(samples.REPORT, devices=(device,))
    assert f"node file0, active in a worker thread, {said}" in text(
        print_requests, report, detailed=True
    )


def test_ring_marks_pointers_and_chains() -> None:
    printed = text(print_ring, samples.RING)
    assert re.search(r"^ +1 +1 +<- last_avail_idx$", printed, re.MULTILINE)
    assert re.search(r"^ +1 +12 +1 +<- used.idx, used_event$", printed, re.MULTILINE)
    assert re.search(r"^ +12 +3 +65552 +1 +complete$", printed, re.MULTILINE)
    assert re.search(r"^ +1 +2 +16 +0 +loop +descriptor 0 was visited", printed, re.MULTILINE)
    assert re.search(r"^ +12 +13 +0x3a00000 +65536 +next +14 +the ring's$", printed, re.MULTILINE)
    assert re.search(r"^ +1 +0 +0x1000 +16 +next +0 +0x3ff3000$", printed, re.MULTILINE)


def test_ring_says_where_its_parts_lie() -> None:
    printed = text(print_ring, samples.RING, detailed=True)
    assert "Descriptor table: guest address 0x3ff0000, 0x7f0000000000 in QEMU" in printed
    assert "Available ring (flags 0): 0x7f0000001000 in QEMU" in printed


def test_the_descriptor_table_is_for_the_detailed_reader() -> None:
    assert "Descriptor table" not in text(print_ring, samples.RING)
    printed = text(print_ring, samples.RING, detailed=True)
    assert re.search(r"^ +13 +0x3a00000 +65536 +next +14 +12$", printed, re.MULTILINE)
    assert re.search(r"^ +0 +0x0 +0 +0 +\(0\) +-$", printed, re.MULTILINE)


def test_slots_around_the_pointers_are_shown_across_the_end() -> None:
    marks = {0: ("last_avail_idx",), 60: ("used_event",)}
    entries = tuple(AvailEntry(slot, 7, marks.get(slot, ())) for slot in range(64))
    ring = structs.replace(samples.RING, split=structs.replace(samples.SPLIT, available=entries))
    whole, _, _ = text(print_ring, ring, detailed=True).partition("Used ring")
    short, _, _ = text(print_ring, ring).partition("Used ring")
    pattern = re.compile(r"^ *(\d+) +7(?: +<-.*)?$", re.MULTILINE)
    assert [int(slot) for slot in pattern.findall(whole)] == list(range(64))
    assert [int(slot) for slot in pattern.findall(short)] == [*range(5), *range(56, 64)]


def test_a_lost_ring_says_why() -> None:
    printed = text(print_ring, samples.LOST_RING)
    assert "The ring cannot be shown: absent[1]" in printed
    assert "[1] absent: not-dumped" in printed


def test_nothing_found_is_said() -> None:
    empty = structs.replace(samples.REPORT, devices=(), limits=())
    lost = structs.replace(samples.REPORT, devices=())
    for printer in PRINTERS:
        assert "No virtio devices." in text(printer, empty)
        assert "No virtio device was found; the notes say why." in text(printer, lost)
    no_queues = structs.replace(samples.REPORT, devices=(structs.replace(samples.DISK, queues=()),))
    for printer in (print_queues, print_requests):
        assert "No queue could be read; the notes say why." in text(printer, no_queues)
    assert " lost " in text(print_devices, no_queues)
    idle = structs.replace(samples.DISK, queues=(samples.queue(0),))
    quiet = structs.replace(samples.REPORT, devices=(idle,))
    assert "No request in flight was identified." in text(print_requests, quiet)


def test_requests_are_summed_up() -> None:
    printed = text(print_requests, samples.REPORT)
    assert "1 request in flight in 1 queue; the oldest is >= 15.2 s old" in printed


def test_missing_guest_ram_is_told_with_what_would_help() -> None:
    core = structs.replace(samples.CORE, guest_ram="absent (dump-guest-core=off)")
    report = structs.replace(samples.REPORT, core=core)
    for printer in PRINTERS:
        assert "note: guest RAM is absent (dump-guest-core=off)" in text(printer, report)
        assert "guest RAM is" not in text(printer, samples.REPORT)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("partial (missing: ram0)", True),
        ("partial (missing: pc.rom, 4096 bytes of pc.ram)", True),
        ("partial (missing: pc.rom)", False),  # a ROM holds no rings
        ("partial (missing: pc.bios, 0000:00:02.0/virtio-net-pci.rom)", False),
        ("absent", True),
        ("present", False),
        ("unknown (no RAM blocks)", False),
    ],
)
def test_the_hint_is_given_where_rings_can_be_lost(state: str, told: bool) -> None:
    core = structs.replace(samples.CORE, guest_ram=state)
    report = structs.replace(samples.REPORT, core=core)
    cut = structs.replace(report, core=structs.replace(core, complete=False))
    for printer in PRINTERS:
        assert (f"note: guest RAM is {state}" in text(printer, report)) == told
        assert "note: guest RAM is" not in text(printer, cut)


@pytest.mark.parametrize(
    "case", lab_cores(lambda core: core.name in ("7.2/huge-ram/gcore", "7.2/huge-ram/kernel"))
)
def test_on_a_core_that_left_out_shared_huge_pages(case: CoreCase) -> None:
    with case.open() as core:
        printed = text(print_queues, core.report())
    assert ("note: guest RAM is partial" in printed) == (case.kind == "gcore")


def test_limits_are_notes() -> None:
    for printer in PRINTERS:
        printed = text(printer, samples.REPORT)
        assert "note: guest RAM: the core does not hold it; set dump-guest-core=on" in printed


def test_the_header_names_the_vm() -> None:
    first = text(print_queues, samples.REPORT).splitlines()[0]
    for part in ("core.20873", "QEMU 7.2.22", "pc-q35-7.2", "VM lab-vm", "finish-migrate"):
        assert part in first
    truncated = structs.replace(samples.CORE, complete=False)
    printed = text(print_queues, structs.replace(samples.REPORT, core=truncated))
    assert "TRUNCATED CORE" in printed.splitlines()[0]


def test_text_from_a_core_cannot_steer_the_terminal() -> None:
    nasty = structs.replace(samples.DISK, id="\x1b[31mdisk\n\u202eevil", kind="[bold]x[/bold]")
    printed = text(print_devices, structs.replace(samples.REPORT, devices=(nasty,)))
    assert "\x1b" not in printed
    assert r"\x1b[31mdisk\x0a\u202eevil" in printed
    assert "[bold]x[/bold]" in printed


def test_requests_that_qemu_has_not_taken_are_told_of() -> None:
    printed = " ".join(text(print_requests, samples.REPORT).split())
    assert (
        "note: disk0 queue 2: 3 published by the driver and not yet taken by QEMU:"
        " `vringcore ring --device disk0 --queue 2` shows the ring" in printed
    )
    assert "queue 0: 256 published" not in printed  # empty buffers for packets to come
    disk = structs.replace(samples.DISK, queues=(samples.queue(0, unseen=64514),))
    printed = text(print_requests, structs.replace(samples.REPORT, devices=(disk,)))
    assert "avail.idx is 64514 ahead in a ring of " in printed


def test_a_request_in_parts_is_counted_where_they_wait() -> None:
    places = [("tracked-request", "top"), *[("tracked-request", "low")] * 3]
    places += [("throttle", "low")] * 3
    waits = tuple(Waiting(place, Address(0x1000), node) for place, node in places)
    printed = text(print_requests, with_request(structs.replace(samples.REQUEST, waits_in=waits)))
    assert "top: tracked-request > low: tracked-request (3) > throttle (3)" in printed


def test_no_number_is_cut_on_the_narrowest_terminal() -> None:
    core = ROOT / "tests" / "dumps" / "7.2" / "stuck" / "core.zst"
    printed = [
        vringcore("queues", str(core), "--no-cache", COLUMNS=columns).stdout.split("\n\n")[1]
        for columns in ("60", "20")
    ]
    assert printed[0] == printed[1]
    assert "inuse" in printed[0]
