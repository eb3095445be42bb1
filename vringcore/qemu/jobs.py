"""Jobs: backups, mirrors, commits, streams and the like (job.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.block import Job
from vringcore.model.values import Address
from vringcore.qemu import block_state_structs as structs
from vringcore.qemu.absence import attempt
from vringcore.qemu.block_structs import BdrvChild
from vringcore.qemu.enums import enumerator
from vringcore.view.lists import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.block import BlockLayer

MAX_JOBS = 10_000
MAX_NODES = 10_000

BLOCK_JOBS = frozenset({"backup", "commit", "mirror", "stream"})
"""The kinds whose Job is the beginning of a BlockJob (include/block/blockjob.h)."""


def raw_jobs(layer: BlockLayer) -> list[structs.Job]:
    """Return every job (``jobs``, job.c); what ends the list early is noted in the layer."""
    return layer.keep("the list of jobs", _walk(layer))


def jobs(layer: BlockLayer) -> tuple[Job, ...]:
    """Return every job as reports show it."""
    return tuple(_model(layer, job) for job in raw_jobs(layer))


def job_id(layer: BlockLayer, job: structs.Job) -> str | None:
    """Return a job's id; None for one of QEMU's own."""
    return layer.views.string_or_none(job.id_)


def _walk(layer: BlockLayer) -> Iterator[structs.Job]:
    views = layer.views
    head = views.address_of("jobs", "job.c")
    yield from views.elements(head, structs.Job, "job_list", limit=MAX_JOBS)


def _model(layer: BlockLayer, job: structs.Job) -> Job:
    views = layer.views

    def kind() -> str:
        driver = views.at(structs.JobDriver, job.driver)
        return enumerator(views, structs.JobDriver, "job_type", driver.job_type, "JOB_TYPE_")

    def timer() -> int | None:
        return None if job.timer_expires < 0 else job.timer_expires

    type_ = attempt(kind)
    return Job(
        id=attempt(lambda: job_id(layer, job)),
        kind=type_,
        address=Address(job.address_),
        status=attempt(lambda: enumerator(views, structs.Job, "status", job.status, "JOB_STATUS_")),
        coroutine=attempt(lambda: Address(job.co) if job.co else None),
        pause_count=attempt(lambda: job.pause_count),
        paused=attempt(lambda: job.paused),
        busy=attempt(lambda: job.busy),
        cancelled=attempt(lambda: job.cancelled),
        nodes=tuple(layer.keep("the nodes of a job", _nodes(layer, job.address_)))
        if type_ in BLOCK_JOBS
        else (),
        timer_expires_ns=attempt(timer),
    )


def _nodes(layer: BlockLayer, job: int) -> Iterator[str]:
    """Yield the names of the nodes that a block job uses (``BlockJob.nodes``, of BdrvChild)."""
    views = layer.views
    first = views.at(structs.BlockJob, job).nodes
    for place in walk(
        first,
        lambda item: views.at(structs.GSList, item).next,
        what="of a job's nodes",
        limit=MAX_NODES,
    ):
        child = views.at(structs.GSList, place).data
        yield layer.node(views.at(BdrvChild, child).bs).name
