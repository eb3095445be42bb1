"""Requests that QEMU itself holds: drained sections, errors, engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.facts import RUNNING, SLOW_NS
from vringcore.diagnose.places import groups
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number, text
from vringcore.diagnose.words import counted, was
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.model.block import Engine

ENGINES = "QEMU's own queues of requests are served"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


@rule("no request is held back by a drained section", needs=("requests",), rank=70, effect=True)
def request_held_by_drain(facts: Facts) -> Iterator[Finding]:
    """Requests wait until a drained section of their disk ends.

    From: their coroutines are in ``BlockBackend.queued_requests``.
    Confidence: high.
    Wrong if: the section had just ended and they were about to be resumed.
    Source: block/block-backend.c (``blk_wait_while_drained``).
    """
    for group in groups(facts, facts.requests_in("drain-queue")):
        yield Finding(
            code=request_held_by_drain.code,
            severity="stuck",
            confidence="high" if (group.oldest or 0) >= SLOW_NS else "low",
            summary=f"{group.what} {_wait(len(group.old))} until a drained section of the disk"
            " ends",
            device=group.device.index,
            evidence=tuple(map(evidence.of_request, group.old[:8])),
            refuted_by=("BlockBackend.quiesce_counter is 0",),
            next_steps=("see who drains: a job, a snapshot, a stop of the VM",),
        )


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


@rule(
    "no request is held back by a drained section",
    needs=("requests", "block.backends", "event-loops", "threads", "stillness"),
    rank=42,
)
def request_left_by_drain(facts: Facts) -> Iterator[Finding]:
    """Requests wait for the end of a drained section that has ended.

    From: coroutines are in ``BlockBackend.queued_requests`` while its ``quiesce_counter`` is 0,
    none of them is scheduled in an event loop, and the threads of all event loops sleep.
    Confidence: medium.
    Wrong if: they were just being resumed.
    Source: block/block-backend.c (``blk_root_drained_end``).
    """
    entered = {int(each) for loop in facts.loops for each in many(loop.scheduled)}
    threads = [facts.thread(loop.lwp) for loop in facts.loops]
    if not threads or not all(thread is not None and stacks.sleeps(thread) for thread in threads):
        return
    for state in facts.backends:
        left = [int(co) for co in many(state.queued)]
        backend = state.backend
        if not left or backend.quiesce_counter != 0 or entered & set(left):
            continue
        node = text(backend.node) or text(backend.name) or f"at {int(backend.address):#x}"
        yield Finding(
            code=request_left_by_drain.code,
            severity="stuck",
            confidence="medium",
            summary=f"{counted(len(left), 'request')} of the back-end of {node}"
            f" {_wait(len(left))} for the end of a drained section, and it has ended",
            evidence=(
                evidence.member(
                    f"quiesce_counter of the back-end of {node}",
                    0,
                    "BlockBackend",
                    backend.address,
                    "quiesce_counter",
                ),
                *(Evidence("a coroutine in its queue", f"{co:#x}") for co in left[:4]),
            ),
            refuted_by=("a second core shows the queue empty",),
            next_steps=("`stop` and `cont` drain every disk once more, and resume its queue",),
        )


@rule("no request is parked after an error", needs=("requests",), rank=55)
def request_parked_after_error(facts: Facts) -> Iterator[Finding]:
    """Requests failed and are kept for another try, though the VM runs.

    From: they are in ``VirtIOBlock.rq`` while the run state is ``running``.
    Confidence: medium.
    Wrong if: the bottom half that tries them again was about to run. A build that tries again by
    a timer of its own (openEuler's ``retry_interval``) parks them so by design.
    Source: hw/block/virtio-blk.c.
    """
    if facts.run_state != RUNNING:
        return
    for group in groups(facts, facts.requests_in("retry-list")):
        yield Finding(
            code=request_parked_after_error.code,
            severity="stuck",
            confidence="medium",
            summary=f"{group.what} failed and {was(len(group.old))} kept for another try, though"
            " the VM runs",
            device=group.device.index,
            evidence=tuple(map(evidence.of_request, group.old[:8])),
            refuted_by=("a second core shows them gone",),
            next_steps=("look for the error in QEMU's log and on the host's storage",),
        )


@rule(ENGINES, needs=("block.engines", "stillness"), rank=40)
def submission_orphaned(facts: Facts) -> Iterator[Finding]:
    """QEMU keeps requests for linux-aio or io_uring that nothing will submit.

    From: the engine has requests in its queue and none in flight, is not blocked and not plugged,
    and its event loop has no bottom half scheduled while its thread sleeps.
    Confidence: medium.
    Wrong if: a submission was put off by a section that is still on a running stack.
    Source: pve-qemu 3edf740 (short read re-queued, never submitted); QEMU commit f387cac5af.
    """
    for engine in facts.engines:
        queued = number(engine.in_queue)
        if engine.kind == "thread-pool" or not queued or engine.in_flight != 0:
            continue
        if engine.blocked is True or number(engine.plugged) or not _loop_sleeps(facts, engine):
            continue
        c_type = "LinuxAioState" if engine.kind == "linux-aio" else "LuringState"
        yield Finding(
            code=submission_orphaned.code,
            severity="stuck",
            confidence="medium",
            summary=f"{counted(queued, 'request')} {was(queued)} left in QEMU's queue for"
            f" {engine.kind} with none in flight: nothing will submit {_them(queued)}",
            evidence=(
                evidence.member("queued", queued, c_type, engine.address, "io_q.in_queue"),
                evidence.member("in flight", 0, c_type, engine.address, "io_q.in_flight"),
            ),
            refuted_by=("a bottom half of that engine is scheduled",),
            next_steps=("any new request of the same event loop submits it, too",),
        )


def _loop_sleeps(facts: Facts, engine: Engine) -> bool:
    """Tell whether it is known that an engine's loop sleeps with nothing scheduled."""
    loop = facts.loop(engine.event_loop)
    if loop is None or isinstance(loop.bottom_halves, Absent):
        return False
    thread = facts.thread(loop.lwp)
    scheduled = any("scheduled" in half.flags for half in loop.bottom_halves)
    return thread is not None and stacks.sleeps(thread) and not scheduled


@rule(ENGINES, needs=("block.engines", "event-loops", "threads", "stillness"), rank=36)
def completion_not_handed_on(facts: Facts) -> Iterator[Finding]:
    """linux-aio's completions were taken from the kernel, and the requests were not told.

    From: ``event_idx`` is behind ``event_max``, and the engine's event loop has no bottom half
    scheduled while its thread sleeps.
    Confidence: medium.
    Wrong if: the bottom half that goes on with them was just being scheduled.
    Source: block/linux-aio.c (``qemu_laio_process_completions``).
    """
    for engine in facts.engines:
        left = number(engine.unprocessed)
        if engine.kind != "linux-aio" or not left or not _loop_sleeps(facts, engine):
            continue
        place = f"{int(engine.address):#x}"
        yield Finding(
            code=completion_not_handed_on.code,
            severity="stuck",
            confidence="medium",
            summary=f"{counted(left, 'completion')} of linux-aio {was(left)} taken from the kernel"
            " and not handed on, and the thread that should do it sleeps",
            evidence=(Evidence(f"event_max - event_idx of linux-aio at {place}", left),),
            refuted_by=("a bottom half of that engine is scheduled",),
            next_steps=("any new request of the same event loop goes on with them",),
        )


@rule(ENGINES, needs=("block.engines", "threads", "stillness"), rank=35)
def completion_not_run(facts: Facts) -> Iterator[Finding]:
    """A worker thread has done its work, and the request's completion was never run.

    From: an element of a thread pool is ``done`` while the thread of its event loop sleeps.
    Confidence: medium; a wake-up on its way takes microseconds.
    Wrong if: the completion was landing just then.
    Source: qemu-devel, April 2020, "bdrv_drained_begin deadlock with io-threads"; barriers missing
    in the AIO code (QEMU commit 5710a3e09f).
    """
    for engine in facts.engines:
        done = [element for element in engine.elements if element.state == "done"]
        loop = facts.loop(engine.event_loop)
        thread = None if loop is None else facts.thread(loop.lwp)
        if not done or thread is None or not stacks.sleeps(thread):
            continue
        yield Finding(
            code=completion_not_run.code,
            severity="stuck",
            confidence="medium",
            summary=f"{counted(len(done), 'request')} {was(len(done))} done by worker threads, and"
            f" thread {thread.lwp}, which should complete {_them(len(done))}, sleeps",
            threads=(thread.lwp,),
            evidence=(
                *(
                    evidence.member("state", "done", "ThreadPoolElement", e.address, "state")
                    for e in done[:8]
                ),
                evidence.of_thread(thread),
            ),
            refuted_by=("a second core shows the element gone",),
            next_steps=("any event in that loop wakes it: a monitor command, a new request",),
        )


@rule(ENGINES, needs=("block.engines", "stillness"), rank=40)
def worker_not_woken(facts: Facts) -> Iterator[Finding]:
    """Work waits in a thread pool although worker threads are idle.

    From: elements are ``queued`` while ``idle_threads`` is above 0 and no element is active.
    Confidence: medium.
    Wrong if: a worker was just waking up.
    Source: util/thread-pool.c.
    """
    for engine in facts.engines:
        queued = [element for element in engine.elements if element.state == "queued"]
        active = any(element.state == "active" for element in engine.elements)
        idle = number(engine.idle_threads)
        if not queued or not idle or active:
            continue
        yield Finding(
            code=worker_not_woken.code,
            severity="stuck",
            confidence="medium",
            summary=f"{counted(len(queued), 'request')} {_wait(len(queued))} for a worker thread,"
            f" although {idle} {'is' if idle == 1 else 'are'} idle",
            evidence=tuple(
                evidence.member("state", "queued", "ThreadPoolElement", e.address, "state")
                for e in queued[:8]
            ),
            refuted_by=("a second core shows the work under way",),
            next_steps=("a new request of the same event loop wakes a worker",),
        )


RULES = (
    request_held_by_drain,
    request_left_by_drain,
    request_parked_after_error,
    submission_orphaned,
    completion_not_handed_on,
    completion_not_run,
    worker_not_woken,
)
