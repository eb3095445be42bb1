"""Migrations, outgoing and incoming (migration/migration.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.model.machine import Migration
from vringcore.model.values import Absent
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.machine import qapi_name
from vringcore.qemu.machine_structs import Error, IncomingMigration, OutgoingMigration

if TYPE_CHECKING:
    from vringcore.qemu.loops_places import Threads
    from vringcore.qemu.process import Process
    from vringcore.view.views import Views

UNIT = "migration/migration.c"
NEVER_BEGAN = "none"

_MILLISECOND = 1_000_000
_NOT_YET = 0xFFFFFFFF
"""-1, as an enumeration without negative values shows it."""


def migrations(process: Process, threads: Threads) -> tuple[Migration, ...] | Absent:
    """Return the migrations that have begun, the outgoing one first.

    One whose status is lost may never have begun: it is not among them, and is the answer where
    there is no other.
    """
    try:
        both = (_outgoing(process.views, threads), _incoming(process.views, threads))
    except VringcoreError as error:
        return absence_of(error)
    there = [each for each in both if each is not None and each.status != NEVER_BEGAN]
    begun = tuple(each for each in there if not isinstance(each.status, Absent))
    lost = [each.status for each in there if isinstance(each.status, Absent)]
    return lost[0] if lost and not begun else begun


def _outgoing(views: Views, threads: Threads) -> Migration | None:
    address = _variable(views, "current_migration")
    if not address:
        return None
    state = views.at(OutgoingMigration, address)
    return Migration(
        direction="outgoing",
        status=attempt(lambda: _status(views, state.state)),
        lwp=attempt(lambda: _carrier(state, threads)),
        started_ns=attempt(lambda: state.start_time * _MILLISECOND or None),
        vm_was_running=attempt(lambda: _was_running(views, state)),
        error=attempt(lambda: _error(views, state.error)),
    )


def _incoming(views: Views, threads: Threads) -> Migration | None:
    address = _variable(views, "current_incoming")
    if not address:
        return None
    state = views.at(IncomingMigration, address)

    def listener() -> int | None:
        return threads.lwp_of(state.listen_thread) if state.have_listen_thread else None

    return Migration(
        direction="incoming",
        status=attempt(lambda: _status(views, state.state)),
        lwp=attempt(listener),
        started_ns=None,
        vm_was_running=None,
    )


def _variable(views: Views, name: str) -> int:
    place = views.find_address_of(name, UNIT)
    return 0 if place is None else views.pointer(place)


def _status(views: Views, value: int) -> str | Absent:
    return qapi_name(views, "MigrationStatus", "MIGRATION_STATUS_", value)


def _carrier(state: OutgoingMigration, threads: Threads) -> int | None:
    # The pthread_t stays when the thread has gone, and another may have got it since.
    if state.migration_thread_running is False:
        return None
    return threads.lwp_of(state.thread)


def _was_running(views: Views, state: OutgoingMigration) -> bool | Absent | None:
    old = state.vm_old_state
    if old is None:
        return state.vm_was_running
    if old & _NOT_YET == _NOT_YET:
        return None
    name = qapi_name(views, "RunState", "RUN_STATE_", old)
    return name == "running" if isinstance(name, str) else name


def _error(views: Views, address: int) -> str | None:
    return views.string_or_none(views.at(Error, address).msg) if address else None
