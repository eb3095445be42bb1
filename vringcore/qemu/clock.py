"""The newest reading of the host's monotonic clock that QEMU left in its memory.

Most cores do not tell when it was taken on the clock that requests are stamped with
(QEMU_CLOCK_REALTIME, which is CLOCK_MONOTONIC in nanoseconds: get_clock() in
include/qemu/timer.h). The newest stamp anywhere is a time before which it was not taken. What was
captured from a running process has the time in its own note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.requests import Age
from vringcore.qemu.aio_structs import ThrottleState
from vringcore.qemu.block_structs import ThrottleGroupMember
from vringcore.qemu.structs import MigrationState
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.block import BlockLayer

_MILLISECOND = 1_000_000


def age_of(layer: BlockLayer, started_ns: int, newest_ns: int) -> Age:
    """Return how long something was under way that began at ``started_ns``.

    :param newest_ns: the newest time known, where the core does not tell when it was taken
    """
    taken = layer.taken_ns
    if taken is None:
        return Age(newest_ns - started_ns, exact=False)
    # The process went on while its memory was read: what began meanwhile had just begun.
    return Age(max(taken - started_ns, 0), exact=True)


def newest_stamp(layer: BlockLayer) -> int:
    """Return the newest time in nanoseconds among those QEMU keeps; 0 if none can be read.

    Looked at: when it was captured, the last access to each block back-end, the stages of a
    migration, the throttle groups.
    """
    newest = layer.taken_ns or 0
    for walk in (_accesses(layer), _migration(layer), _throttling(layer)):
        stamps, _ = collect(walk)  # a clock that cannot be read only makes the bound less tight
        newest = max(newest, *stamps, 0)
    return newest


def _accesses(layer: BlockLayer) -> Iterator[int]:
    for blk in layer.backends():
        yield blk.last_access_time_ns


def _migration(layer: BlockLayer) -> Iterator[int]:
    views = layer.views
    variable = views.find_address_of("current_migration", "migration/migration.c")
    address = views.pointer(variable) if variable is not None else 0
    if address:
        state = views.at(MigrationState, address)
        for stamp in (state.start_time, state.iteration_start_time, state.downtime_start):
            yield stamp * _MILLISECOND


def _throttling(layer: BlockLayer) -> Iterator[int]:
    views = layer.views
    for blk in layer.backends():
        nodes = layer.graph_of(blk.address_)
        below = [int(node.view.opaque) for node in nodes if node.driver == "throttle"]
        for member in (int(blk.throttle_group_member), *below):
            state = views.at(ThrottleGroupMember, member).throttle_state if member else 0
            if state:
                yield views.at(ThrottleState, state).previous_leak
