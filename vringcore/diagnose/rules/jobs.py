"""Jobs (backup, mirror, commit, stream): paused, waiting, or not ending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.held import TURNS
from vringcore.diagnose.places import server_name
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number, text
from vringcore.diagnose.words import counted, joined, thread_name
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.model.block import Job
    from vringcore.model.requests import Waiting
    from vringcore.model.threads import Thread

CLEAR = "no job keeps anything waiting"

OVER = ("aborting", "concluded", "null", "undefined", "created")
"""JobStatus of jobs that do nothing any more, or not yet."""

NBD = "nbd"

WHOM = {
    "linux-aio": "the kernel (linux-aio)",
    "io-uring": "the kernel (io_uring)",
    "thread-pool": "a worker thread",
    "throttle": "an I/O limit",
    "drain-queue": "the end of a drained section",
}
"""Who has to answer, by the place where a request waits."""

WAITERS = ("job_finish_sync", "job_cancel_sync", "job_complete_sync", "job_cancel_sync_all")
"""Functions that return once a job has ended (job.c)."""


def _live(facts: Facts) -> Iterator[Job]:
    return (job for job in facts.jobs if text(job.status) not in OVER)


def _name(job: Job) -> str:
    kind = text(job.kind) or "job"
    return f"job {job.id} ({kind})" if text(job.id) else f"a {kind} job"


def _member(job: Job, name: str, value: object) -> Evidence:
    return evidence.member(f"{name} of {_name(job)}", value, "Job", job.address, name)


def _places(facts: Facts, job: Job) -> list[Waiting]:
    """Return where a job's coroutine, and the requests of its nodes, wait: outermost first."""
    own = None if isinstance(job.coroutine, Absent) else job.coroutine
    nodes = set(many(job.nodes))
    carriers = {int(t.coroutine) for n in facts.nodes if n.name in nodes for t in many(n.tracked)}
    guests = {held.coroutine for held in facts.requests} | _of_guests(facts)
    wanted = ({int(own)} if own is not None else set()) | (carriers - guests)
    found = []
    for co in facts.coroutines:
        places = [each for each in co.waits_in if each.place not in TURNS]
        if int(co.address) in wanted and places and places[-1].place in (NBD, *WHOM):
            found.append(places[-1])
    return found


def _of_guests(facts: Facts) -> set[int | None]:
    """Return the coroutines that carry requests of the guest's, not of a job."""
    tracked = facts.coroutine_of_tracked
    return {
        tracked.get(int(place.address))
        for held in facts.elements
        for place in held.request.waits_in
        if place.place == "tracked-request"
    }


def _where(facts: Facts, places: list[Waiting]) -> str:
    """Return for whom requests wait, in words; "" if nothing is known."""
    whom = dict.fromkeys(
        f"the NBD server {server_name(facts, each.node)}" if each.place == NBD else WHOM[each.place]
        for each in places
    )
    return joined(list(whom))


def _waiter(facts: Facts) -> Thread | None:
    """Return a thread that waits in a call until a job has ended."""
    for thread in facts.threads:
        if any(name in WAITERS for name in stacks.names(thread)):
            return thread
    return None


@rule(CLEAR, needs=("block.jobs", "coroutines"), rank=62)
def job_waits_for_requests(facts: Facts) -> Iterator[Finding]:
    """A job goes on only once requests of its own have been answered.

    From: the job is at work, and its coroutine, or those of requests of its nodes that are not the
    guest's, wait for the kernel, a server, a worker thread or a limit.
    Confidence: low, a note: every job looks like this at most moments, and how long its requests
    have been under way QEMU does not keep. Where a thread waits in a call for a job to end: medium.
    Wrong if: they are answered, and others take their place: a second core tells.
    Source: job.c, block/mirror.c, block/backup.c, block/block-copy.c.
    """
    waiter = _waiter(facts)
    for job in _live(facts):
        places = _places(facts, job)
        where = _where(facts, places)
        if job.paused is True or not where:
            continue
        by = "" if waiter is None else f"; the {thread_name(waiter)} waits for a job to end"
        yield Finding(
            code=job_waits_for_requests.code,
            severity="note" if waiter is None else "stuck",
            confidence="low" if waiter is None else "medium",
            summary=f"{_name(job)}, {text(job.status) or 'at work'}, waits for"
            f" {counted(len(places), 'request')} with {where}{by}",
            threads=() if waiter is None else (waiter.lwp,),
            evidence=(
                *([_member(job, "busy", job.busy)] if isinstance(job.busy, bool) else []),
                *(Evidence(f"{p.place}, node {p.node}", p.detail, p.address) for p in places[:4]),
                *([] if waiter is None else [evidence.of_thread(waiter, *WAITERS)]),
            ),
            refuted_by=("a second core shows the job further on: query-jobs, current-progress",),
            next_steps=(f"look at what {where} has to answer",),
        )


@rule(CLEAR, needs=("block.jobs", "coroutines"), rank=61)
def job_does_not_pause(facts: Facts) -> Iterator[Finding]:
    """A job was asked to pause and has not reached a point where it can: a drain waits for that.

    From: ``pause_count`` is above 0 and ``paused`` is false while the job is ``busy``. A drained
    section of a job's disk begins only once the job has paused.
    Confidence: medium where a thread waits in a drain, else low: a job pauses at its next turn.
    Wrong if: it was just about to pause.
    Source: job.c (``job_pause_point``), blockjob.c (``child_job_drained_poll``).
    """
    waiting = [thread for thread in facts.threads if stacks.drain_of(thread)]
    for job in _live(facts):
        if not number(job.pause_count) or job.paused is not False or job.busy is not True:
            continue
        where = _where(facts, _places(facts, job))
        on = f", which waits for {where}" if where else ""
        by = f": the {thread_name(waiting[0])} waits in a drain" if waiting else ""
        yield Finding(
            code=job_does_not_pause.code,
            severity="stuck" if waiting else "warning",
            confidence="medium" if waiting else "low",
            summary=f"{_name(job)} was asked to pause and has not{on}{by}",
            threads=tuple(thread.lwp for thread in waiting[:1]),
            evidence=(
                _member(job, "pause_count", job.pause_count),
                _member(job, "paused", False),
                _member(job, "busy", True),
                *(evidence.of_thread(thread, *stacks.DRAINS) for thread in waiting[:1]),
            ),
            refuted_by=("a second core shows the job paused",),
            next_steps=("see what the job's coroutine waits for: backtrace --coroutines",),
        )


@rule(CLEAR, needs=("block.jobs", "coroutines"), rank=61)
def job_not_ending(facts: Facts) -> Iterator[Finding]:
    """A job was cancelled and has not ended.

    From: ``cancelled`` is set while its status is still ``running``, ``ready`` or the like.
    Confidence: medium where it is known to wait for requests, and a thread waits for it; else low.
    A mirror that is ready may have been cancelled softly, to be completed without switching.
    Wrong if: it was about to end: a job looks at the flag when its coroutine goes on.
    Source: job.c (``job_cancel_async``).
    """
    waiter = _waiter(facts)
    for job in _live(facts):
        if job.cancelled is not True:
            continue
        where = _where(facts, _places(facts, job))
        stuck = waiter is not None and bool(where)
        yield Finding(
            code=job_not_ending.code,
            severity="stuck" if stuck else "warning" if where else "note",
            confidence="medium" if stuck else "low",
            summary=f"{_name(job)} was cancelled and is still {text(job.status) or 'there'}"
            + (f": it waits for {where}" if where else "")
            + ("; it is paused" if job.paused is True else ""),
            threads=() if waiter is None else (waiter.lwp,),
            evidence=(
                _member(job, "cancelled", True),
                Evidence(f"status of {_name(job)}", text(job.status)),
                *([] if waiter is None else [evidence.of_thread(waiter, *WAITERS)]),
            ),
            refuted_by=("a second core shows the job gone",),
            next_steps=("block-job-cancel with force, where the job is a mirror that is ready",),
        )


@rule(CLEAR, needs=("block.jobs",), rank=94)
def job_paused(facts: Facts) -> Iterator[Finding]:
    """A job stands still because it was paused: it does not go on by itself.

    From: ``paused`` is set.
    Confidence: high.
    Wrong if: it is paused by a drained section only, and goes on with its end.
    Source: job.c (``job_pause``); an I/O error with the policy ``stop`` pauses a job, too.
    """
    for job in _live(facts):
        if job.paused is True:
            yield Finding(
                code=job_paused.code,
                severity="note",
                confidence="high",
                summary=f"{_name(job)} is paused (status {text(job.status) or 'unknown'})",
                evidence=(
                    _member(job, "paused", True),
                    *(
                        [_member(job, "pause_count", job.pause_count)]
                        if number(job.pause_count) is not None
                        else []
                    ),
                ),
                refuted_by=(),
                next_steps=("query-block-jobs shows an io-status; block-job-resume goes on",),
            )


RULES = (job_waits_for_requests, job_does_not_pause, job_not_ending, job_paused)
