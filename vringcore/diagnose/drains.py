"""Drained sections that have not begun: who waits, for which disks, for which requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import stacks
from vringcore.diagnose.disks import BY_DEVICE, disks
from vringcore.diagnose.values import many, number
from vringcore.diagnose.words import joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.disks import Disk
    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Held
    from vringcore.model.threads import Thread

ALL = ("bdrv_drain_all_begin", "bdrv_drain_all", "blk_drain_all")
"""Those that wait for every disk; the others wait for one."""


class Drain:
    """A thread that waits in a drain.

    :ivar disks: those it waits for; empty if that cannot be told
    :ivar certain: the core shows that it is these: all are drained, or only one is
    """

    __slots__ = ("certain", "disks", "function", "purpose", "thread")

    def __init__(
        self, thread: Thread, function: str, disks: tuple[Disk, ...], *, certain: bool
    ) -> None:
        self.thread = thread
        self.function = function
        self.disks = disks
        self.certain = certain
        self.purpose = stacks.purpose_of(stacks.names(thread))

    @property
    def whom(self) -> str:
        """The disks it waits for, for a sentence; of several that may be it, that it is one."""
        names = [disk.name for disk in self.disks]
        if len(names) > 1 and not self.certain:
            return f"one of {joined(names)}"
        return joined(names)

    @property
    def id(self) -> str:
        """Of its node in the wait-for graph."""
        return f"drain:{self.thread.lwp}"


def drains(facts: Facts) -> tuple[Drain, ...]:
    """Return every thread that waits in a drain, and for which disks."""
    return facts.once("drains", lambda facts: tuple(_drains(facts)))


def _drains(facts: Facts) -> Iterator[Drain]:
    for thread in facts.threads:
        function = stacks.drain_of(thread)
        if function:
            found, certain = _waited_for(facts, thread, function)
            if function not in stacks.DRAINS and not found:
                continue  # a nested loop like any other
            yield Drain(thread, function, found, certain=certain)


def _waited_for(facts: Facts, thread: Thread, function: str) -> tuple[tuple[Disk, ...], bool]:
    """Return the disks that a drain waits for, and whether the core proves it."""
    found = tuple(disks(facts))
    named = _named(facts, thread, found) if function not in ALL else ()
    if len(named) == 1:
        return named, True
    quiesced = tuple(disk for disk in found if _is_quiesced(facts, disk) and _busy(facts, disk))
    if quiesced:
        return quiesced, function in ALL or len(quiesced) == 1
    if any(disk.backend is not None for disk in found):
        return (), False
    # Nothing is known of back-ends: the stack names a kind of device, and one has requests inside.
    kinds = {
        kind
        for name in stacks.names(thread)
        for prefix, kind in BY_DEVICE.items()
        if name.startswith(prefix)
    }
    busy = tuple(d for d in found if d.device.kind in kinds and _busy(facts, d))
    return (busy, False) if len(busy) == 1 else ((), False)


def _named(facts: Facts, thread: Thread, found: tuple[Disk, ...]) -> tuple[Disk, ...]:
    """Return the disks that the arguments of the functions on a stack name.

    A back-end, its root node or its device: ``blk``, ``bs``, ``vdev`` of the functions that lead to
    the drain.
    """
    given = stacks.pointers(thread)
    return tuple(disk for disk in found if given & _addresses(facts, disk))


def _addresses(facts: Facts, disk: Disk) -> set[int]:
    node = facts.node(disk.node) if disk.node else None
    places = [None if disk.backend is None else disk.backend.address]
    places.append(None if node is None else node.address)
    if len(many(disk.device.disks)) < 2:
        places.append(disk.device.address)
    return {int(place) for place in places if place}


def _is_quiesced(facts: Facts, disk: Disk) -> bool:
    own = None if disk.backend is None else number(disk.backend.quiesce_counter)
    node = facts.node(disk.node) if disk.node else None
    below = None if node is None else number(node.quiesce_counter)
    return bool(own or below)


def _busy(facts: Facts, disk: Disk) -> bool:
    if disk.in_flight is not None:
        return disk.in_flight > 0 or bool(requests_of(facts, disk))
    return any(line.in_use for line in facts.lines if line.device.index == disk.device.index)


def requests_of(facts: Facts, disk: Disk) -> tuple[Held, ...]:
    """Return the identified requests of a disk that a drain of it waits for.

    Those held back by the drained section itself are not among them: they wait for its end. Nor is
    the task management request that may have brought the drain about.
    """
    several = len(many(disk.device.disks)) > 1
    return tuple(
        held
        for held in facts.requests
        if held.device.index == disk.device.index
        and (held.last is None or held.last.place != "drain-queue")
        and (held.line is None or held.line.queue.role != "control")
        and not (several and disk.node not in {w.node for w in held.request.waits_in})
    )


def in_use_of(facts: Facts, disk: Disk) -> int:
    """Return how many elements QEMU holds of the device of a disk."""
    return sum(line.in_use for line in facts.lines if line.device.index == disk.device.index)
