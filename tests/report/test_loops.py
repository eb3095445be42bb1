"""Event loops and the machine as text."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.report import samples
from tests.report.strategies import any_of
from tests.report.test_text import text
from vringcore.model.loops import BottomHalf, EventLoop, Handler, QueueNotifier, Timer
from vringcore.model.machine import Interrupts, Machine, Migration, MsixVector, VCpuState
from vringcore.model.values import Absent, Address
from vringcore.report.loops import print_loops
from vringcore.report.machine import spans

STATE = (
    "  sleeps by epoll, polling false (at most 32768 ns), notify_me 2, notified true, external 1"
)
OF_DEVICE = "of disk1 (eventfd)"
WAS_RUNNING = "the VM was running before: true, error: no route"

LOST = Absent("not-dumped", Address(0x7F0012345000), "take a whole core")


def kick(queue: int, fd: int, *, live: bool = True) -> Handler:
    return Handler(
        address=Address(0x5000 + fd),
        fd=fd,
        events=("in", "err", "hup"),
        read="virtio_queue_host_notifier_read",
        write=None,
        poll="virtio_queue_host_notifier_aio_poll",
        opaque=Address(0x9000 + fd),
        live=live,
        polled=False,
        owner=f"kicks of queue {queue} of disk1 (eventfd)",
        queue=QueueNotifier(1, queue, "host-notifier"),
    )


OTHER = structs.replace(kick(0, 4), owner="", queue=None, read="tap_send", events=("out",))

LOOP = EventLoop(
    address=Address(0x55C3A0001000),
    name="io0",
    lwp=4712,
    waits_by="epoll",
    polling=False,
    poll_max_ns=32768,
    notify_me=2,
    notified=True,
    external_disabled=1,
    handlers=(kick(3, 31), kick(2, 30), kick(1, 22), kick(0, 21, live=False), OTHER),
    bottom_halves=(
        BottomHalf(Address(0x6000), "dma_bh", "dma_bh_cb", Address(0x6100), ("scheduled",)),
        BottomHalf(Address(0x6200), None, LOST, Address(0x6300), ("oneshot",), taken=True),
    ),
    timers=(Timer(Address(0x7000), "virtual", 9618097195, "apic_timer", Address(0x7100)),),
    scheduled=(Address(0x8000), Address(0x8100)),
)

CPU = VCpuState(
    index=0,
    lwp=4713,
    halted=True,
    stop=False,
    stopped=True,
    created=True,
    in_guest=None,
    crash_occurred=False,
)

VECTORS = (
    MsixVector(0, Address(0xFEE04004), 35, masked=False, pending=False, used_by=("config",)),
    MsixVector(1, Address(0xFEE01004), 34, masked=True, pending=True, used_by=("0", "1", "2", "5")),
)

MACHINE = Machine(
    run_state="finish-migrate",
    accelerator="tcg",
    vcpus=(CPU,),
    migrations=(Migration("outgoing", "active", 4720, 1_000_000_000, True, "no route"),),
    interrupts=(
        Interrupts(0, "msix", False, 1, VECTORS, 0),
        Interrupts(1, "intx", None, 1, (), line_raised=True, line_disabled=True),
        Interrupts(2, "msix", True, LOST, LOST, 0),
    ),
    newest_time_ns=13_300_000_000,
)


def shown(detailed: bool = False, **changes: Any) -> list[str]:
    report = structs.replace(
        samples.REPORT, **{"event_loops": (LOOP,), "machine": MACHINE, "limits": (), **changes}
    )
    return text(print_loops, report, detailed=detailed).splitlines()


def below(lines: list[str], start: str) -> list[str]:
    """Return the lines from one that begins so to the next empty one."""
    found = lines[next(n for n, line in enumerate(lines) if line.startswith(start)) :]
    return [line.rstrip() for line in found[: found.index("")]] if "" in found else found


def test_numbers_and_their_neighbours() -> None:
    assert spans([]) == ""
    assert spans([7]) == "7"
    assert spans([17, 12, 16, 15]) == "12, 15-17"


def test_an_event_loop() -> None:
    lines = below(shown(), "event loop io0")
    assert lines == [
        "event loop io0, thread 4712, at 0x55c3a0001000",
        STATE,
        "       fd  watched for        what it is",
        f"22, 30-31  in err hup         kicks of queues 1 to 3 {OF_DEVICE}",
        f"       21  in err hup (held)  kicks of queue 0 {OF_DEVICE}",
        "        4  out                tap_send",
        "BH         flags          function   opaque  address",
        "dma_bh     scheduled      dma_bh_cb  0x6100   0x6000",
        "absent[1]  oneshot taken  absent[1]  0x6300   0x6200",
        "timer       clock    expires at (ns)  opaque  address",
        "apic_timer  virtual       9618097195  0x7100   0x7000",
        "  coroutines that it is to enter: 0x8000, 0x8100",
    ]


def test_every_handler_has_its_line() -> None:
    lines = below(shown(detailed=True), "event loop io0")
    rows = [line for line in lines if "virtio_queue_host_notifier_read" in line]
    assert [row.split()[0] for row in rows] == ["31", "30", "22", "21"]
    assert [row.split()[4] for row in rows] == ["true", "true", "true", "(held)"]


def test_what_could_not_be_read_is_absent() -> None:
    lost = structs.replace(LOOP, handlers=LOST, bottom_halves=LOST, timers=LOST, scheduled=LOST)
    lines = below(shown(event_loops=(lost,)), "event loop io0")
    assert lines[2:] == [
        "  handlers: absent[1]",
        "  bottom halves: absent[1]",
        "  timers: absent[1]",
        "  coroutines that it is to enter: absent[1]",
    ]


def test_a_handler_of_nobody_is_called_by_its_function() -> None:
    handlers = (structs.replace(OTHER, read=None, write="flush"), structs.replace(OTHER, read=LOST))
    loop = structs.replace(LOOP, handlers=handlers)
    lines = below(shown(event_loops=(loop,)), "event loop io0")
    assert [line.split()[-1] for line in lines[3:5]] == ["flush", "absent[1]"]


def test_the_machine() -> None:
    assert below(shown(), "machine") == [
        "machine",
        "  run state           finish-migrate",
        "  accelerator         tcg",
        f"  outgoing migration  active, thread 4720, began 12.3 s or more ago, {WAS_RUNNING}",
        "vCPU  thread  halted  stop   stopped  created  crashed",
        "   0    4713  true    false  true     true     false",
    ]


def test_kvm_has_a_column_of_its_own() -> None:
    kvm = structs.replace(MACHINE, vcpus=(structs.replace(CPU, in_guest=True),))
    assert "   0    4713  true        true    false" in "\n".join(shown(machine=kvm))


def test_interrupts() -> None:
    lines = below(shown(detailed=True), "interrupts")
    assert lines[1].split() == ["device", "id", "mode", "vectors", "ISR", "held", "back"]
    assert lines[2].endswith("vector 1 is masked; vector 1 is pending")
    assert lines[3].split()[2:5] == ["intx", "-", "1"]
    assert lines[3].endswith("  the line is disabled; the line is up")
    assert lines[4].split()[2:] == ["msix", "absent[1]", "absent[1]", "absent[1]"]
    vectors = below(shown(detailed=True), "MSI-X vectors in use")
    assert vectors[2].endswith("config")
    assert vectors[3].endswith("queues 0-2, 5")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_report_can_be_shown(data: st.DataObject) -> None:
    loop = data.draw(any_of(EventLoop))
    machine = data.draw(any_of(Machine))
    detailed = data.draw(st.booleans())
    printed = "\n".join(shown(detailed, event_loops=(loop,), machine=machine))
    assert all(each.isprintable() for each in printed.split("\n"))
