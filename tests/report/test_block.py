"""The block layer and coroutines as text."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.report import samples
from tests.report.strategies import any_of
from tests.report.test_text import text
from vringcore.model.block import (
    BlockState,
    Engine,
    NbdConnection,
    NbdSlot,
    Node,
    PoolElement,
    ThrottleGroup,
    ThrottleMember,
    ThrottleTimer,
    TrackedRequest,
)
from vringcore.model.coroutines import Coroutine
from vringcore.model.requests import Waiting
from vringcore.model.threads import Frame
from vringcore.model.values import Absent, Address
from vringcore.report.backtrace import print_backtraces
from vringcore.report.block import print_block

WIDTHS = st.sampled_from([None, 40, 80, 300])

CO, LOOP, REQUEST = Address(0x7F0000001000), Address(0x550000002000), Address(0x7F0000003000)

NODE = Node(
    address=Address(0x550000004000),
    name="nbd0",
    driver="nbd",
    file="nbd://host/export",
    event_loop=LOOP,
    in_flight=2,
    quiesce_counter=1,
    parents=("/machine/peripheral/disk0/virtio-backend",),
    children=(),
    tracked=(TrackedRequest(REQUEST, "write", 4096, 512, True, CO, (Address(0x7F0000005000),)),),
    flushes=(),
    nbd=NbdConnection(
        address=Address(0x550000006000),
        state="connecting-wait",
        server="nbd://host/export",
        in_flight=1,
        slots=(NbdSlot(3, CO, 4096, False),),
        waiting=(),
        reconnect_delay=60,
        reconnect_expires_ns=123456789,
    ),
)

BLOCK = BlockState(
    backends=(),
    nodes=(NODE,),
    throttle_groups=(
        ThrottleGroup(
            address=Address(0x550000007000),
            name="group0",
            any_timer_armed=(True, False),
            tokens=("slow0", ""),
            limits={"bps-total": 1024},
            members=(
                ThrottleMember(
                    Address(0x550000008000),
                    "slow0",
                    (4, 0),
                    0,
                    (ThrottleTimer("reads", 99), ThrottleTimer("writes", None)),
                ),
            ),
        ),
    ),
    engines=(
        Engine(
            "thread-pool",
            Address(0x550000009000),
            LOOP,
            1,
            0,
            elements=(PoolElement(Address(0x55000000A000), "active", CO, "handle_aiocb_rw", 4711),),
            idle_threads=0,
            total_threads=1,
        ),
    ),
    jobs=Absent("not-dumped"),
    drain_all_count=1,
)

FRAME = Frame(Address(0x6000), "nbd_co_request", "nbd.c", 12, False, "/bin/qemu", "cfi")

COROUTINE = Coroutine(
    address=CO,
    entry="blk_aio_write_entry",
    state="suspended",
    event_loop=LOOP,
    found_by=("tracked-request", "nbd"),
    caller=None,
    waits_in=(Waiting("nbd", REQUEST, "nbd0", "slot 3, client connected"),),
    locks_held=2,
    frames=(FRAME,),
    frames_end="outermost",
)


def block(state: BlockState, **options: Any) -> list[str]:
    report = structs.replace(samples.REPORT, block=state, limits=())
    return text(print_block, report, **options).splitlines()


def coroutines(*shown: Coroutine, idle: int = 0, **options: Any) -> list[str]:
    report = structs.replace(samples.REPORT, coroutines=shown, idle_coroutines=idle, limits=())
    printed = text(print_backtraces, report, **options).splitlines()
    return printed[next(n for n, line in enumerate(printed) if line.startswith("coroutine")) :]


def test_what_holds_requests_is_said() -> None:
    lines = block(BLOCK)
    assert "All nodes are drained: bdrv_drain_all_count 1" in lines
    assert "jobs: absent[1]" in lines
    assert "NBD client of node nbd0: connecting-wait" in lines
    assert "  gives up at         123456789 ns" in lines
    assert "    held back         4 reads and 0 writes" in lines
    assert "    timer for writes  no timer runs" in lines
    assert not any(line.startswith("Tracked requests") for line in lines)


def test_each_request_is_shown_if_asked_for() -> None:
    lines = block(BLOCK, detailed=True)
    row = lines[lines.index("Tracked requests") + 2]
    assert row.split()[:6] == ["nbd0", "write", "4096", "512", "true", "0x7f0000001000"]
    assert "0x7f0000005000" in row
    assert lines[lines.index("Work of thread pools") + 2].split()[:3] == [
        "active",
        "handle_aiocb_rw",
        "4711",
    ]
    assert any(line.startswith("  slot 3") for line in lines)


def test_a_coroutine_is_a_title_its_places_and_its_frames() -> None:
    assert coroutines(COROUTINE, idle=64) == [
        "coroutine 0x7f0000001000, blk_aio_write_entry, suspended, holds 2 locks",
        "  waits in nbd of node nbd0: slot 3, client connected",
        "  #0  0x6000  nbd_co_request  nbd.c:12",
        "",
        "1 coroutine, and 64 that ended and wait to be used again.",
    ]


def test_frames_that_were_printed_are_not_printed_again() -> None:
    other = structs.replace(COROUTINE, address=Address(0x7F0000009000), waits_in=())
    assert coroutines(COROUTINE, other)[4:6] == [
        "coroutine 0x7f0000009000, blk_aio_write_entry, suspended, holds 2 locks",
        "  frames as of coroutine 0x7f0000001000",
    ]
    assert (
        sum("nbd_co_request" in line for line in coroutines(COROUTINE, other, detailed=True)) == 2
    )


def test_a_running_coroutine_names_its_thread() -> None:
    running = structs.replace(
        COROUTINE, state="running", frames=(), frames_end="running", lwp=4711, waits_in=()
    )
    assert coroutines(running)[0].startswith(
        "coroutine 0x7f0000001000, blk_aio_write_entry, running, in thread 4711"
    )
    assert coroutines(running)[1] == ""


@given(state=any_of(BlockState), width=WIDTHS, detailed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_block_layer_can_be_printed(
    state: BlockState, width: int | None, detailed: bool
) -> None:
    assert all(line.isprintable() for line in block(state, width=width, detailed=detailed))


@given(coroutine=any_of(Coroutine), width=WIDTHS, detailed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_coroutine_can_be_printed(
    coroutine: Coroutine, width: int | None, detailed: bool
) -> None:
    lines = coroutines(coroutine, width=width, detailed=detailed)
    assert all(line.isprintable() for line in lines)
