"""Requests that an I/O limit holds back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence
from vringcore.diagnose.facts import SLOW_NS
from vringcore.diagnose.places import Group, groups
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many
from vringcore.diagnose.words import counted, was
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.model.block import ThrottleGroup

RATES = ("-total", "-read", "-write")
"""How the names of the limits end that count a second's requests or bytes."""

LIMITS = "no limit holds requests back for long"


@rule(LIMITS, needs=("requests",), rank=60)
def throttled(facts: Facts) -> Iterator[Finding]:
    """Requests are held back by an I/O limit that was set for the disk.

    From: their coroutines are in a throttle group's queue.
    Confidence: high. It is ``stuck`` only where the oldest has waited for 2 s, or the limit is so
    low that they need as long: below, this is what limits are for.
    Wrong if: the timer that lets the next one pass is lost (see `throttle-timer-lost`).
    Source: block/throttle-groups.c.
    """
    for group in groups(facts, facts.requests_in("throttle")):
        limits = _limits_of(facts, group)
        slow = max(group.oldest or 0, _needed_ns(group, limits)) >= SLOW_NS
        told = _told(limits)
        node = f" of node {group.node}" if group.node else ""
        yield Finding(
            code=throttled.code,
            severity="stuck" if slow else "note" if limits else group.severity,
            confidence="high" if slow or limits else group.confidence,
            summary=f"{group.what} {_is(len(group.old))} held back by the I/O limit{node}{told}"
            + (f"; the oldest began{group.since}" if group.since else ""),
            device=group.device.index,
            evidence=(
                *map(evidence.of_request, group.old[:8]),
                *(Evidence(f"limit {name}, a second", limits[name]) for name in limits),
            ),
            refuted_by=("no limit is set: query-block, or the options of the throttle node",),
            next_steps=("raise the limit if that is not wanted: block_set_io_throttle, qom-set",),
        )


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _told(limits: dict[str, int]) -> str:
    told = [f"{name} {value}" for name, value in limits.items() if name.endswith(RATES)]
    return f" ({', '.join(told)} a second)" if told else ""


def _limits_of(facts: Facts, group: Group) -> dict[str, int]:
    """Return the limits that hold a group's requests back; none where that cannot be read."""
    members = {int(h.last.address) for h in group.requests if h.last is not None}
    limits: dict[str, int] = {}
    for each in facts.throttle_groups:
        named = members & {int(member.address) for member in each.members}
        if named and not isinstance(each.limits, Absent):
            limits.update(each.limits)
    return limits


def _needed_ns(group: Group, limits: dict[str, int]) -> int:
    """Return how long the requests of a group need to pass limits on reads and writes together."""
    sizes = [h.request.request.length for h in group.requests if h.request.request is not None]
    total = sum(size for size in sizes if isinstance(size, int))
    needs = [
        (total if name.startswith("bps") else len(group.requests)) / limit
        for name, limit in limits.items()
        if limit > 0 and name.endswith("total")
    ]
    return int(min(max(needs, default=0.0), 1e9) * 1e9)


@rule(LIMITS, needs=("block.throttle_groups", "stillness"), rank=40)
def throttle_timer_lost(facts: Facts) -> Iterator[Finding]:
    """Requests are held back by a limit, and no timer is armed that would let them pass.

    From: a throttle group has pending requests of a direction, and none of its members has a timer
    of that direction armed.
    Confidence: medium.
    Wrong if: the timer has fired and its callback was about to run, or the group's lock is held by
    a thread that is arming it.
    Source: block/throttle-groups.c; lock-ups of throttled disks (gitlab.com/qemu-project/qemu
    issue 3144).
    """
    for group in facts.throttle_groups:
        for number_of, direction in enumerate(("read", "write")):
            pending = sum(_pending(member.pending, number_of) for member in group.members)
            if pending and _no_timer(group, direction):
                name = group.name if isinstance(group.name, str) else f"at {int(group.address):#x}"
                yield Finding(
                    code=throttle_timer_lost.code,
                    severity="stuck",
                    confidence="medium",
                    summary=f"{counted(pending, direction)} {was(pending)} held back by throttle"
                    f" group {name}, and no timer is armed to let {_them(pending)} pass",
                    evidence=tuple(
                        evidence.member(
                            f"pending {direction}s of {member.user}",
                            _pending(member.pending, number_of),
                            "ThrottleGroupMember",
                            member.address,
                            f"pending_reqs[{number_of}]",
                        )
                        for member in group.members
                    ),
                    refuted_by=("the timer's bottom half is scheduled in the disk's event loop",),
                    next_steps=("setting the limits again restarts the group's queues",),
                )


def _pending(pending: tuple[int, ...] | Absent, index: int) -> int:
    return pending[index] if isinstance(pending, tuple) and len(pending) > index else 0


def _no_timer(group: ThrottleGroup, direction: str) -> bool:
    """Tell whether it is known that no member's timer of a direction runs."""
    timers = [member.timers for member in group.members]
    if any(isinstance(each, Absent) for each in timers):
        return False
    armed = [t for each in timers for t in many(each) if t.direction.startswith(direction)]
    return bool(armed) and all(timer.expires_ns is None for timer in armed)


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


RULES = (throttled, throttle_timer_lost)
