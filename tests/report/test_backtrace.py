"""Threads as text."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.report import samples
from tests.report.strategies import any_of
from tests.report.test_text import text
from vringcore.model.threads import Frame, SystemCall, Thread
from vringcore.model.values import Absent, Address, Pointer
from vringcore.report.backtrace import print_backtraces

NOT_LIVE = Absent("not-recorded", None, "capture notes it")

FRAMES = (
    Frame(Address(0x7F00_0000_1000), "futex_wait", "futex.h", 146, True, "/lib/libc.so.6", "cfi"),
    Frame(
        Address(0x7F00_0000_1000),
        "lock_wait",
        "lock.c",
        49,
        False,
        "/lib/libc.so.6",
        "registers",
        Address(0x7FFE_0000_1000),
    ),
    Frame(Address(0x5500_0000_2000), None, None, None, False, "/bin/qemu", "heuristic"),
    Frame(Address(0x6000), None, None, None, False, "", "signal"),
)

THREAD = Thread(
    lwp=4711,
    pthread=Address(0x7F00_0000_0000),
    name=NOT_LIVE,
    state=NOT_LIVE,
    role="vcpu",
    role_name="3",
    signal=0,
    system_call=SystemCall(
        202,
        "futex",
        {
            "address": Pointer(Address(0x5500_0000_9000), "bql", 8),
            "operation": "WAIT",
            "value": 0,
            "timeout": Address(0),
        },
    ),
    kernel_stack=NOT_LIVE,
    frames=FRAMES,
    frames_end="outermost",
)


def shown(thread: Thread, **options: Any) -> list[str]:
    report = structs.replace(samples.REPORT, threads=(thread,), limits=())
    printed = text(print_backtraces, report, **options).splitlines()
    return printed[next(n for n, line in enumerate(printed) if line.startswith("thread ")) :]


def test_a_thread_is_a_title_and_its_frames() -> None:
    assert shown(THREAD) == [
        "thread 4711, vCPU 3, in futex(address=0x550000009000 <bql+8>, operation=WAIT, value=0)",
        "  #0                  futex_wait        futex.h:146",
        "  #1  0x7f0000001000  lock_wait         lock.c:49",
        "  #2 ?0x550000002000  ??                of qemu",
        "  #3  0x6000          ?? (interrupted)  of no file",
    ]


def test_details_tell_the_stack_address_and_the_file() -> None:
    lines = shown(THREAD, detailed=True)
    assert lines[2].endswith("[frame at 0x7ffe00001000, /lib/libc.so.6, by registers]")
    assert lines[3].endswith("[/bin/qemu, by heuristic]")
    assert lines[4].endswith("[no file, by signal]")


def test_what_proc_told_is_shown() -> None:
    call = SystemCall(
        17, "pread64", {"fd": 12, "buffer": Address(0), "offset": 4096}, None, "/dev/sda"
    )
    thread = structs.replace(
        THREAD,
        name="worker",
        state="D",
        role=None,
        role_name=None,
        signal=6,
        kernel_stack=("request_wait_answer+0x1d/0x100 [fuse]", "do_preadv+0x92"),
        system_call=call,
    )
    assert shown(thread)[:3] == [
        "thread 4711, named worker, state D, signal 6, in pread64(fd=12 (/dev/sda), offset=4096)",
        "  kernel  request_wait_answer+0x1d/0x100 [fuse]",
        "  kernel  do_preadv+0x92",
    ]


def test_calls_that_are_unknown_or_have_returned() -> None:
    call = SystemCall(999, None, {"arg0": Address(1)}, -11)
    title = shown(structs.replace(THREAD, system_call=call))[0]
    assert title.endswith("in system call 999(arg0=0x1), which has returned -11")
    assert shown(structs.replace(THREAD, system_call=None))[0] == "thread 4711, vCPU 3"


def test_an_end_that_is_not_the_beginning_is_told() -> None:
    thread = structs.replace(THREAD, frames_end="loop", frames_end_detail="after 3 frames")
    assert shown(thread)[-1] == "  no further: loop: after 3 frames"


def test_absent_values_have_footnotes() -> None:
    lost = Absent("not-recorded", None, "no registers")
    lines = shown(structs.replace(THREAD, system_call=lost, frames=()))
    assert lines[0] == "thread 4711, vCPU 3, system call absent[1]"
    assert lines[-1] == "[1] absent: not-recorded - no registers"


def test_no_thread_at_all_is_said() -> None:
    report = structs.replace(samples.REPORT, threads=())
    assert "No thread is in the core." in text(print_backtraces, report)


def test_names_from_a_core_do_not_steer_the_terminal() -> None:
    thread = structs.replace(THREAD, name="\x1b[31mred")
    assert shown(thread)[0].startswith("thread 4711, vCPU 3, named \\x1b[31mred, in")


@given(thread=any_of(Thread), width=st.sampled_from([None, 20, 80, 300]), detailed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_thread_can_be_printed(thread: Thread, width: int | None, detailed: bool) -> None:
    report = structs.replace(samples.REPORT, threads=(thread,))
    printed = text(print_backtraces, report, width=width, detailed=detailed)
    assert all(line.isprintable() for line in printed.split("\n"))


def test_a_long_frame_is_folded_beside_its_number_and_address() -> None:
    long = structs.replace(FRAMES[1], function="virtio_blk_data_plane_handle_output")
    lines = shown(structs.replace(THREAD, frames=(FRAMES[0], long)), width=62)
    assert lines == [
        "thread 4711, vCPU 3, in futex(address=0x550000009000 <bql+8>,",
        "  operation=WAIT, value=0)",
        "  #0                  futex_wait  futex.h:146",
        "  #1  0x7f0000001000  virtio_blk_data_plane_handle_output",
        "                      lock.c:49",
    ]
