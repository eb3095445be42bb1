"""Which coroutines threads are in: each thread notes the one that it runs (``co_tls_current``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import VringcoreError
from vringcore.qemu.block_structs import Coroutine
from vringcore.qemu.thread_blocks import thread_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

UNIT = "util/coroutine-ucontext.c"

CURRENT = ("co_tls_current", "current")
LEADER = ("co_tls_leader", "leader")
"""Thread-local variables of that file; their second names until 7.0."""

MAX_NESTED = 1000
"""Coroutines that entered one another in one thread."""


class Running(msgspec.Struct, frozen=True):
    """What runs where.

    :param threads: by coroutine, the thread that runs it, or runs one that it entered
    :param innermost: those of them that run themselves
    :param leaders: what stands for a thread's own stack, which is no coroutine
    """

    threads: dict[int, int]
    innermost: frozenset[int]
    leaders: frozenset[int]


def running(process: Process) -> Running:
    """Return the coroutines that threads are in; of what cannot be read none is known."""
    threads: dict[int, int] = {}
    innermost, leaders = set(), set()
    for lwp, block in thread_blocks(process):
        try:
            leader = _own(process, LEADER, block)
            current = _own(process, CURRENT, block)
            at = int(process.views.pointer(current)) if current else 0
        except VringcoreError:
            continue
        leaders.add(leader)
        if at and at != leader:
            innermost.add(at)
            threads.update(dict.fromkeys(_chain(process, at, leader), lwp))
    return Running(threads, frozenset(innermost), frozenset(leaders))


def _own(process: Process, names: tuple[str, ...], block: int) -> int:
    """Return where a thread has its copy of a variable, 0 if this build has none."""
    for name in names:
        variable = process.views.layouts.find_variable(name, UNIT)
        if variable is not None and variable.thread_local:
            return block + variable.address
    return 0


def _chain(process: Process, first: int, leader: int) -> Iterator[int]:
    """Yield a running coroutine and those that entered it, up to the thread's own stack."""
    seen: set[int] = set()
    at = first
    while at and at != leader and at not in seen and len(seen) < MAX_NESTED:
        seen.add(at)
        yield at
        try:
            at = int(process.views.at(Coroutine, at).caller)
        except VringcoreError:
            return
