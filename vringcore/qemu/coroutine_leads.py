"""All the structures that lead to coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.requests import Waiting
from vringcore.model.values import Address
from vringcore.qemu.aio_structs import AioTask, AioTaskPool
from vringcore.qemu.block_loops import event_loop_addresses
from vringcore.qemu.block_structs import Coroutine
from vringcore.qemu.coroutine_block import leads_in_block_layer
from vringcore.qemu.coroutine_lead import OUTERMOST, Lead, waiting_leads
from vringcore.qemu.coroutine_loops import leads_in_loop, leads_in_timers
from vringcore.qemu.coroutine_structs import MigrationIncomingState
from vringcore.qemu.waiting import waiters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

TASK = "aio_task_co"
"""The function of a coroutine that a format driver runs for a part of a request."""


def all_leads(process: Process) -> Iterator[Lead]:
    """Yield every lead, those of the block layer first; what cannot be read is noted there."""
    keep = process.block.keep
    yield from leads_in_block_layer(process.block)
    for loop in event_loop_addresses(process):
        yield from keep("the coroutines of an event loop", leads_in_loop(process, loop))
    yield from keep("the main loop's timers", _main_loop_timers(process))
    yield from keep("the monitor's coroutine", _monitor(process))
    yield from keep("the coroutine of an incoming migration", _incoming(process))


def leads_of(process: Process, coroutine: Coroutine, entry: str | None) -> Iterator[Lead]:
    """Yield the leads from a coroutine to others: those it woke, and the one it is a task of.

    :param entry: the name of the function that it began with
    """
    address = int(coroutine.address_)
    detail = f"woken: it goes on when the coroutine at {address:#x} has yielded"
    woken = list(waiters(process.block, coroutine.co_queue_wakeup))
    yield from waiting_leads(woken, "wake-up", address, detail)
    if (entry or "").partition(".")[0] == TASK:
        views = process.views
        pool = views.at(AioTaskPool, views.at(AioTask, coroutine.entry_arg).pool)
        detail = f"for its tasks, of which {pool.busy_tasks} run"
        waiting = Waiting("task-pool", Address(pool.address_), "", detail)
        yield Lead(int(pool.main_co), "task-pool", waiting if pool.waiting else None)


def _main_loop_timers(process: Process) -> Iterator[Lead]:
    place = process.views.find_address_of("main_loop_tlg", "util/qemu-timer.c")
    if place is not None:
        yield from leads_in_timers(process, place)


def _monitor(process: Process) -> Iterator[Lead]:
    views = process.views
    place = views.find_address_of("qmp_dispatcher_co", "monitor/monitor.c")
    address = int(views.pointer(place)) if place is not None else 0
    if address:
        yield Lead(address, "monitor", rank=OUTERMOST)


def _incoming(process: Process) -> Iterator[Lead]:
    views = process.views
    place = views.find_address_of("current_incoming", "migration/migration.c")
    state = views.pointer(place) if place is not None else 0
    address = views.at(MigrationIncomingState, state).loadvm_co if state else None
    if address:
        yield Lead(int(address), "migration", rank=OUTERMOST)
