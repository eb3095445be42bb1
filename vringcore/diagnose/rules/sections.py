"""Drained sections that were begun and that nobody is left to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number
from vringcore.diagnose.words import counted, has, joined
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts

HOLDERS = (
    *("drain", "reopen", "transaction", "snapshot", "truncate", "aio_context", "graph_wrlock"),
    *("qmp_", "hmp_", "job_", "mirror_", "commit_", "backup_", "stream_", "replication_"),
    *("bdrv_close", "blk_remove", "hotplug", "unrealize", "vm_stop", "blk_exp", "migration_"),
)
"""Parts of the names of functions that work inside a drained section, or call what does."""


@rule(
    "no drained section was left open",
    needs=("block.nodes", "block.jobs", "threads", "coroutines", "stillness"),
    rank=60,
)
def drained_section_left_open(facts: Facts) -> Iterator[Finding]:
    """Disks are in a drained section, and nobody is there who would end it.

    From: ``quiesce_counter`` of nodes or back-ends is above 0 (or ``bdrv_drain_all_count`` is),
    while the main loop sleeps, there is no job, and no thread and no coroutine is in a function
    that drains, or works on drained disks.
    Confidence: medium where requests wait behind it, else low.
    Wrong if: a section is held between two callbacks, by something that is in no stack: a bottom
    half or a timer that is to end it. A VM that does not run, or migrates, is not judged.
    Source: block/io.c (``bdrv_drained_end``); a counter that is increased once too often.
    """
    if facts.run_state != "running" or facts.jobs or _migrates(facts):
        return
    main = facts.with_role("main-loop")
    if not main or not all(map(stacks.sleeps, main)) or _held(facts):
        return
    counters = tuple(_counters(facts))
    if not counters:
        return
    behind = [int(co) for state in facts.backends for co in many(state.queued)]
    waiting = counted(len(behind), "request")
    names = [each.what.rpartition(" of ")[2] for each in counters]
    yield Finding(
        code=drained_section_left_open.code,
        severity="stuck" if behind else "warning",
        confidence="medium" if behind else "low",
        summary=f"a drained section of {joined(names[:4])} was begun and nobody is left to end it"
        + (f": {waiting} {has(len(behind))} been held back since" if behind else ""),
        evidence=(
            *counters,
            *(evidence.of_thread(thread) for thread in main),
            *(Evidence("a coroutine that it holds back", f"{co:#x}") for co in behind[:4]),
        ),
        refuted_by=("a second core shows the counter at 0",),
        next_steps=(
            "keep this core: it is a defect of QEMU; look which command, job or hotplug came last",
            "nothing ends it from outside: the VM has to be restarted or moved away",
        ),
    )


def _migrates(facts: Facts) -> bool:
    return any(each.lwp is not None for each in facts.migrations)


def _held(facts: Facts) -> bool:
    """Tell whether some thread or coroutine may hold a drained section."""
    threads = [name for thread in facts.threads for name in stacks.names(thread)]
    frames = [frame for co in facts.coroutines for frame in co.frames]
    coroutines = [stacks.plain(frame.function) for frame in frames if frame.function]
    # Those that a section holds back do not hold it.
    held_back = "blk_wait_while_drained"
    return any(
        part in name for name in (*threads, *coroutines) if name != held_back for part in HOLDERS
    )


def _counters(facts: Facts) -> Iterator[Evidence]:
    for node in facts.nodes:
        count = number(node.quiesce_counter)
        if count:
            what = f"quiesce_counter of node {node.name}"
            path = "quiesce_counter"
            yield evidence.member(what, count, "BlockDriverState", node.address, path)
    for state in facts.backends:
        count, backend = number(state.backend.quiesce_counter), state.backend
        node_name = "" if isinstance(backend.node, Absent) else backend.node
        if count and not any(node.name == node_name for node in facts.nodes):
            what = f"quiesce_counter of the back-end of {node_name or 'no node'}"
            yield evidence.member(what, count, "BlockBackend", backend.address, "quiesce_counter")
    everywhere = number(getattr(facts.report.block, "drain_all_count", None))
    if everywhere:
        yield Evidence(
            "bdrv_drain_all_count of all nodes", everywhere, c_path="bdrv_drain_all_count"
        )


RULES = (drained_section_left_open,)
