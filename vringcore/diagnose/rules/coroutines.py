"""Coroutines that nobody will enter again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.disks import disks
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many
from vringcore.diagnose.wakeups import home_sleeps, wakeups
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.model.block import Node, TrackedRequest
    from vringcore.model.coroutines import Coroutine

ELSEWHERE = (
    *("qemu_rbd", "rbd_", "iscsi_", "nfs_", "curl_", "ssh_", "qemu_gluster", "gluster", "vitastor"),
    *("blkio_", "nvme_", "vxhs_", "sd_co", "sheepdog", "nbd_", "replication", "export", "fuse_"),
    *("laio_", "luring_", "throttle_", "mirror_", "backup_", "block_copy", "commit_", "stream_"),
)
"""How functions begin whose coroutines are woken by what a report does not show.

Libraries, engines whose control blocks lie where they cannot always be found, jobs.
"""

SWITCH = ("qemu_coroutine_yield", "qemu_coroutine_switch")

TRAMPOLINE = "coroutine_trampoline"


@rule(
    "something will wake every coroutine that carries a request",
    needs=("coroutines", "event-loops", "threads", "block.nodes", "block.engines", "stillness"),
    rank=40,
)
def coroutine_never_woken(facts: Facts) -> Iterator[Finding]:
    """A coroutine that carries a request of a disk sleeps, and nothing will enter it again.

    From: it is suspended, nobody entered it, and it is in no list of QEMU's: not scheduled, in no
    queue of waiting coroutines, no thread pool's work, no callback, bottom half or timer. What it
    waits for is gone, too: no event loop watches its socket; the request it waits for is no longer
    under way; the thread pool has no work of it.
    Confidence: medium; low, and a warning, where only the lists speak or its thread does not sleep.
    Wrong if: it is woken from a library (rbd, iscsi …) or a structure that is not looked at, or was
    just being woken. Drivers known to be so are not judged, nor is a report with a list cut short.
    Source: util/qemu-coroutine.c, util/async.c (``aio_co_schedule``); QEMU commit 6690302b84.
    """
    waking = wakeups(facts)
    if not waking.complete:
        return
    carried = {
        int(request.coroutine): (node, request)
        for node in facts.nodes
        for request in many(node.tracked)
    }
    for co in facts.coroutines:
        found = carried.get(int(co.address))
        if found is None or co.state != "suspended" or not _is_whole(co):
            continue
        lost = _lost(facts, co, found[1])
        if not lost and (waking.wakes(co) or _waits(co) or _is_elsewhere(co)):
            continue
        if int(co.address) in _scheduled(facts):
            continue
        yield _finding(facts, co, *found, lost)


def _finding(
    facts: Facts, co: Coroutine, node: Node, request: TrackedRequest, lost: str
) -> Finding:
    sure = bool(lost) and home_sleeps(facts, co)
    functions = " < ".join(dict.fromkeys(_names(co)))
    what = f"a {request.kind} of {request.bytes} bytes at {request.offset} of node {node.name}"
    return Finding(
        code=coroutine_never_woken.code,
        severity="stuck" if sure else "warning",
        confidence="medium" if sure else "low",
        summary=f"{what} sleeps in a coroutine that nothing will wake: "
        + (lost or "it is in none of the lists that coroutines are woken from"),
        device=_device_of(facts, node),
        evidence=(
            evidence.member(
                f"coroutine of {what}",
                request.coroutine,
                "BdrvTrackedRequest",
                request.address,
                "co",
            ),
            Evidence("its stack", functions),
        ),
        refuted_by=("a second core shows that coroutine elsewhere, or gone",),
        next_steps=(f"`vringcore backtrace CORE --coroutines` shows {int(co.address):#x}",),
    )


def _device_of(facts: Facts, node: Node) -> int | None:
    owners = [disk.device.index for disk in disks(facts) if disk.node == node.name]
    return owners[0] if len(owners) == 1 else None


def _is_whole(co: Coroutine) -> bool:
    """Tell whether a coroutine's stack is known from end to end."""
    return co.frames_end == "outermost" and all(f.how != "heuristic" for f in co.frames)


def _names(co: Coroutine) -> list[str]:
    """Return the functions of a coroutine, innermost first, without the switch."""
    names = [stacks.plain(frame.function) for frame in co.frames if frame.function]
    end = names.index(TRAMPOLINE) if TRAMPOLINE in names else len(names)
    return [name for name in names[:end] if name not in SWITCH]


def _waits(co: Coroutine) -> bool:
    """Tell whether a place was found in which a coroutine waits for somebody."""
    return any(each.place != "tracked-request" for each in co.waits_in)


def _is_elsewhere(co: Coroutine) -> bool:
    """Tell whether a coroutine may be woken by what a report does not show."""
    names, known = _names(co), [frame for frame in co.frames if frame.function]
    end = next((f.module for f in known if stacks.plain(f.function or "") == TRAMPOLINE), None)
    own = known[: len(names)]
    foreign = end is None or any(frame.module != end for frame in own)
    return foreign or any(name.startswith(ELSEWHERE) for name in names)


def _scheduled(facts: Facts) -> set[int]:
    return {int(each) for loop in facts.loops for each in many(loop.scheduled)}


def _lost(facts: Facts, co: Coroutine, request: TrackedRequest) -> str:
    """Return what a coroutine waits for that is gone, in words; "" if nothing shows that."""
    last = co.waits_in[-1] if co.waits_in else None
    if last is not None and last.place == "io-channel":
        fd = next((int(word) for word in last.detail.split() if word.isdigit()), None)
        watched = {each.fd for loop in facts.loops for each in many(loop.handlers)}
        if fd is not None and fd not in watched:
            return f"no event loop watches its socket, file descriptor {fd}"
    if request.waiting_for:
        under_way = {int(each.address) for node in facts.nodes for each in many(node.tracked)}
        if int(request.waiting_for[0]) not in under_way:
            return "it waits for an overlapping request that is no longer under way"
    if _names(co)[:1] == ["thread_pool_submit_co"] and not _waits(co):
        pools = [engine for engine in facts.engines if engine.kind == "thread-pool"]
        work = [each for pool in pools for each in pool.elements]
        owners = {int(each.coroutine) for each in work if each.coroutine is not None}
        told = all(each.coroutine is not None for each in work)
        # An absent count says that a pool was not read.
        read = bool(pools) and not any(isinstance(pool.in_flight, Absent) for pool in pools)
        if read and told and int(co.address) not in owners:
            return "no thread pool has its work any more"
    return ""


RULES = (coroutine_never_woken,)
