"""Throttle groups: their limits, whose turn it is, and the requests that they hold back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.block import ThrottleGroup, ThrottleMember, ThrottleTimer
from vringcore.model.values import Absent, Address
from vringcore.qemu import block_state_structs as structs
from vringcore.qemu.absence import attempt
from vringcore.qemu.loop_structs import QEMUTimer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vringcore.qemu.block import BlockLayer
    from vringcore.view.views import Views

MAX_GROUPS = 10_000
MAX_MEMBERS = 10_000

BUCKETS = ("bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write")
"""QMP's names of the members of ``ThrottleConfig.buckets``, by ``BucketType``
(include/qemu/throttle.h)."""

_OF_GROUP = "struct ThrottleGroup"
_UNIT = "block/throttle-groups.c"


def throttle_groups(
    layer: BlockLayer, users: Mapping[int, str]
) -> tuple[ThrottleGroup, ...] | Absent:
    """Return all throttle groups (``throttle_groups``, block/throttle-groups.c).

    :param users: names of who is limited, by the address of its ``ThrottleGroupMember``
    """
    return layer.listed("the list of throttle groups", _groups(layer, users))


def group_of(views: Views, member: int) -> int:
    """Return the address of the group that limits a ``ThrottleGroupMember``, 0 for none."""
    state = views.at(structs.ThrottleGroupMemberState, member).throttle_state
    return int(state) - views.offset(_OF_GROUP, "ts", (_UNIT,)) if state else 0


def group_name(views: Views, group: int) -> str | None:
    """Return the name of a group; None for one that has none yet."""
    return views.string_or_none(views.at(structs.ThrottleGroup, group).name)


def _groups(layer: BlockLayer, users: Mapping[int, str]) -> Iterator[ThrottleGroup]:
    views = layer.views
    head = views.address_of("throttle_groups", _UNIT)
    for group in views.elements(head, structs.ThrottleGroup, "list", limit=MAX_GROUPS):
        yield _group(layer, group, users)


def _group(
    layer: BlockLayer, group: structs.ThrottleGroup, users: Mapping[int, str]
) -> ThrottleGroup:
    views = layer.views

    def members() -> Iterator[ThrottleMember]:
        view = structs.ThrottleGroupMemberState
        for member in views.elements(group.head, view, "round_robin", limit=MAX_MEMBERS):
            yield _member(views, member, users)

    def turns() -> tuple[str, ...]:
        places = (group.token_reads, group.token_writes)
        return tuple(_user(users, int(place)) if place else "" for place in places)

    return ThrottleGroup(
        address=Address(group.address_),
        name=attempt(lambda: group_name(views, group.address_)),
        any_timer_armed=attempt(lambda: (group.armed_reads, group.armed_writes)),
        tokens=attempt(turns),
        limits=attempt(lambda: dict(_limits(views, int(group.ts)))),
        members=tuple(layer.keep("the members of a throttle group", members())),
    )


def _member(
    views: Views, member: structs.ThrottleGroupMemberState, users: Mapping[int, str]
) -> ThrottleMember:
    return ThrottleMember(
        address=Address(member.address_),
        user=_user(users, int(member.address_)),
        pending=attempt(lambda: (member.pending_reads, member.pending_writes)),
        limits_disabled=attempt(lambda: member.io_limits_disabled),
        timers=attempt(lambda: tuple(_timers(views, member))),
    )


def _user(users: Mapping[int, str], member: int) -> str:
    return users.get(member) or f"the member at {member:#x}"


def _timers(views: Views, member: structs.ThrottleGroupMemberState) -> Iterator[ThrottleTimer]:
    for direction, timer in (("reads", member.timer_reads), ("writes", member.timer_writes)):
        if timer:
            yield ThrottleTimer(direction, expiry(views, int(timer)))


def expiry(views: Views, timer: int) -> int | None:
    """Return when a QEMUTimer goes off in nanoseconds of its clock, None if it is not armed."""
    expires = views.at(QEMUTimer, timer).expire_time
    return None if expires < 0 else expires


def _limits(views: Views, state: int) -> Iterator[tuple[str, int]]:
    config = views.at(structs.ThrottleConfig, views.at(structs.ThrottleConfigOfState, state).cfg)
    size = views.binding(structs.LeakyBucket).type.size
    for number, name in enumerate(BUCKETS):
        bucket = views.at(structs.LeakyBucket, config.buckets + number * size)
        if bucket.avg:
            yield name, bucket.avg
        if bucket.max:
            yield f"{name}-max", bucket.max
            yield f"{name}-max-length", bucket.burst_length
    if config.op_size:
        yield "iops-size", config.op_size
