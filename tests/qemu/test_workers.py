"""The worker thread that serves each request, against gdb and what /proc said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.cores import cores
from tests.lab.cases import CoreCase
from tests.qemu.damaged import patched
from vringcore.qemu.aio_structs import RawPosixAIOData, ThreadPoolElement, ThreadPoolElementAio
from vringcore.qemu.requests import virtio_blk_requests
from vringcore.qemu.syscalls import Caller, SystemCall, callers
from vringcore.qemu.virtqueues import read_queues
from vringcore.qemu.workers import workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.requests import Waiting
    from vringcore.qemu.process import Process
    from vringcore.view.views import Views

FLUSH = 8
NUMBERS = {17: "pread64", 18: "pwrite64", 75: "fdatasync", 295: "preadv", 296: "pwritev"}


def has_thread_pools(core: CoreCase) -> bool:
    return core.case.scenario in ("slow-threads", "stuck-threads")


@pytest.fixture(params=cores(has_thread_pools), scope="module")
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[CoreCase, Process]]:
    process = request.param.open_process()
    yield request.param, process
    process.close()


def in_threads(core: CoreCase, process: Process) -> dict[int, Waiting]:
    """Return what is said of each element of a thread pool."""
    found = {}
    for disk in core.gdb["devices"]:
        queues, _ = read_queues(process.views, disk["fields"]["vq"], disk["address"])
        requests, limits = virtio_blk_requests(process.block, disk["address"], queues)
        assert limits == []
        for each in (each for queue in requests.values() for each in queue):
            for waiting in each.waits_in:
                if waiting.place == "thread-pool":
                    found[int(waiting.address)] = waiting
    return found


def test_every_active_request_has_its_thread(opened: tuple[CoreCase, Process]) -> None:
    core, process = opened
    found = in_threads(core, process)
    assert found.keys() == {each["address"] for each in core.gdb["thread_pools"]}
    assert len(found) >= 4
    for element in core.gdb["thread_pools"]:
        waiting = found[element["address"]]
        thread = waiting.thread
        assert waiting.node == element["file"]["node"]
        assert element["state"] == "THREAD_ACTIVE"
        assert thread is not None
        assert thread.fd == element["file"]["fd"]
        if element["function"] == "handle_aiocb_flush":
            assert (thread.call, thread.offset) == ("fdatasync", None)
        else:
            assert thread.offset == element["file"]["offset"]
    assert len({each.thread.lwp for each in found.values() if each.thread}) == len(found)


def test_it_is_the_one_whose_function_got_the_request(opened: tuple[CoreCase, Process]) -> None:
    """gdb finds the argument in the frames of a thread whose registers are all known."""
    core, process = opened
    works_on = {each["works_on"]: each["lwp"] for each in core.gdb["threads"] if each["works_on"]}
    if core.kind == "proc":
        assert not works_on
        return
    found = in_threads(core, process)
    for element in core.gdb["thread_pools"]:
        thread = found[element["address"]].thread
        assert thread is not None
        assert works_on[element["argument"]] == thread.lwp
        # gdb waited until the kernel gave it back: the request is served, and QEMU not told yet.
        assert thread.result == element["file"]["bytes"]


def test_the_kernel_had_the_same_call(opened: tuple[CoreCase, Process]) -> None:
    core, process = opened
    if core.case.proc is None:
        pytest.skip("/proc was not asked")
    asleep = {each["lwp"]: each for each in core.case.proc["threads"] if each["state"] == "D"}
    found = [each.thread for each in in_threads(core, process).values()]
    assert {thread.lwp for thread in found if thread} == asleep.keys()
    for thread in found:
        assert thread is not None
        said = asleep[thread.lwp]
        number, fd, _, _, offset, *_ = (int(word, 0) for word in said["syscall"].split())
        assert NUMBERS[number] == thread.call
        assert (fd, thread.result) == (thread.fd, None)
        assert thread.offset == (None if thread.call == "fdatasync" else offset)
        assert core.case.proc["files"][str(thread.fd)].endswith("/fuse/nbd")
        assert any("fuse" in frame for frame in said["stack"])


def test_a_flush_is_among_those_that_never_return(opened: tuple[CoreCase, Process]) -> None:
    """Its system call tells nothing but the file: the stack of its thread names it."""
    core, process = opened
    if core.case.scenario != "stuck-threads":
        pytest.skip("no flushes here")
    calls = [each.thread.call for each in in_threads(core, process).values() if each.thread]
    assert "fdatasync" in calls
    assert "preadv" in calls


def elements_of(views: Views, core: CoreCase) -> list[ThreadPoolElement]:
    newer = views.layouts.find_definition(ThreadPoolElementAio.c_type) is not None
    view = ThreadPoolElementAio if newer else ThreadPoolElement
    return [views.at(view, each["address"]) for each in core.gdb["thread_pools"]]


def as_flushes(core: CoreCase, process: Process) -> tuple[Views, list[Caller]]:
    """Return the core with all requests and calls flushes of one file."""
    offset = process.views.offset("typedef RawPosixAIOData", "aio_type", RawPosixAIOData.unit)
    changes = {
        each["argument"] + offset: FLUSH.to_bytes(4, "little") for each in core.gdb["thread_pools"]
    }
    flush = SystemCall(75, "fdatasync", (11, 0, 0, 0, 0, 0), {"fd": 11})
    busy = [each for each in callers(process.core) if each.call.fd == 11]
    flushing = [msgspec.structs.replace(each, call=flush) for each in busy]
    return patched(process.views, changes), flushing


@pytest.mark.parametrize("core", cores(lambda core: "7.2/slow-threads/" in core.name))
def test_like_requests_are_told_apart_by_the_threads_stacks(core: CoreCase) -> None:
    process = core.open_process()
    views, flushing = as_flushes(core, process)
    elements = elements_of(views, core)
    right = {each["works_on"]: each["lwp"] for each in core.gdb["threads"] if each["works_on"]}
    found = workers_of(views, elements, flushing)
    assert {address: thread.lwp for address, thread in found.items()} == {
        each["address"]: right[each["argument"]] for each in core.gdb["thread_pools"]
    }
    nowhere = [msgspec.structs.replace(each, sp=0) for each in flushing]
    assert workers_of(views, elements, nowhere) == {}
    process.close()


def test_other_calls_are_nobodys(opened: tuple[CoreCase, Process]) -> None:
    core, process = opened
    elements = elements_of(process.views, core)
    known = list(callers(process.core))
    for name in ("read", "futex", "ftruncate", "fallocate"):
        called = [
            msgspec.structs.replace(each, call=SystemCall(0, name, (0,) * 6, {"fd": 11}))
            for each in known
        ]
        assert workers_of(process.views, elements, called) == {}
    assert workers_of(process.views, elements, []) == {}
    assert len(workers_of(process.views, elements, known)) == len(elements)
