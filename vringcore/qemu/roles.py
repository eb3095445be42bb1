"""What a thread is: by the function that it began with, and by QEMU's own lists of vCPUs and
I/O threads, joined by ``pthread_t``, which is the thread pointer. Where that is not known, as of a
process that was not stopped, by the number that the kernel gave it: in a container it may differ.
The thread of a migration that goes on is told by MigrationState, too: a stripped program does not
name the function that it began with.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.qemu.machine import migration_status
from vringcore.qemu.thread_structs import CPUS, CPUState, IOThread, MigrationThread, QemuThread
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vringcore.addresses import HostAddress
    from vringcore.qemu.process import Process
    from vringcore.qemu.qom import ObjectModel
    from vringcore.view.views import Views

MAIN_LOOP = "main-loop"
VCPU = "vcpu"
IOTHREAD = "iothread"
MIGRATION = "migration"

_START_ROUTINES = {
    MAIN_LOOP: "main qemu_main_loop main_loop_wait qemu_default_main",
    VCPU: "kvm_vcpu_thread_fn mttcg_cpu_thread_fn rr_cpu_thread_fn dummy_cpu_thread_fn"
    " hvf_cpu_thread_fn qemu_kvm_cpu_thread_fn qemu_tcg_cpu_thread_fn qemu_tcg_rr_cpu_thread_fn"
    " qemu_dummy_cpu_thread_fn",
    IOTHREAD: "iothread_run",
    MIGRATION: "migration_thread bg_migration_thread",
    "migration-return-path": "source_return_path_thread",
    "multifd": "multifd_send_thread multifd_recv_thread multifd_send_fill_packet_thread",
    "postcopy": "postcopy_ram_listen_thread postcopy_listen_thread postcopy_ram_fault_thread"
    " postcopy_preempt_thread",
    "dirty-rate": "get_dirtyrate_thread",
    "rcu": "call_rcu_thread",
    "worker": "worker_thread",
    "signals": "sigwait_compat",
    "vnc": "vnc_worker_thread",
    "preallocation": "do_touch_pages do_madv_populate_write_pages touch_all_pages",
}

_MIGRATING = frozenset(
    {"setup", "active", "device", "pre-switchover", "postcopy-active", "postcopy-device"}
    | {"cancelling"}
)
"""Of MigrationStatus (qapi/migration.json): those in which its thread is at work."""

ROLES = {name: role for role, names in _START_ROUTINES.items() for name in names.split()}
"""What a thread is by the name of a function near the beginning of its stack (QEMU 2 to 10)."""

Role = tuple[str | None, str | None]
"""The role, and which one of its kind."""


class Roles:
    """Tells what threads are."""

    def __init__(self, process: Process) -> None:
        self._views = process.views
        self._objects = process.objects
        core = process.core
        self._main = core.prpsinfo.pid if core.prpsinfo is not None else None

    def of(self, lwp: int, pthread: int | None, functions: Iterable[str | None]) -> Role:
        """Return what a thread is.

        :param functions: of its stack, outermost first
        """
        role = next((ROLES[f] for name in functions if (f := _plain(name)) in ROLES), None)
        key = pthread or lwp
        if role in (None, VCPU) and key in self._vcpus:
            return VCPU, self._vcpus[key]
        if role in (None, IOTHREAD) and key in self._iothreads:
            return IOTHREAD, self._iothreads[key]
        if role is None and pthread and pthread == self._migration:
            return MIGRATION, None
        if role is None and lwp == self._main:
            # Its stack is a coroutine's, or could not be followed.
            return MAIN_LOOP, None
        return role, None

    @cached_property
    def _migration(self) -> int | None:
        """The pthread_t of the outgoing migration's thread, while there is one.

        Another thread may be given the number of one that has ended.
        """
        views = self._views
        try:
            if migration_status(views) not in _MIGRATING:
                return None
            state = views.pointer(views.address_of("current_migration"))
            return views.at(MigrationThread, state).thread if state else None
        except VringcoreError:
            return None

    @cached_property
    def _vcpus(self) -> dict[int, str]:
        """The vCPUs' indices by their threads' pthread_t and number, as far as they can be read."""
        views = self._views
        found: dict[int, str] = {}
        try:
            places = (views.find_address_of(n, u) for n, u in CPUS.items())
            head = next((place for place in places if place is not None), None)
            if head is None:
                return found
            cpus, _ = collect(views.elements(head, CPUState, "node"))
        except VringcoreError:
            return found
        for cpu in cpus:
            try:
                found[cpu.thread_id] = found[views.at(QemuThread, cpu.thread).thread] = str(
                    cpu.cpu_index
                )
            except VringcoreError:
                continue
        return found

    @cached_property
    def _iothreads(self) -> dict[int, str]:
        """The I/O threads' ids in the same way: the user's, and those that QEMU makes itself."""
        found: dict[int, str] = {}
        for name, address in collect(iothreads(self._views, self._objects))[0]:
            try:
                thread = self._views.at(IOThread, address)
                found[thread.thread_id] = found[thread.thread] = name
            except VringcoreError:
                continue
        return found


def iothreads(views: Views, objects: ObjectModel) -> Iterator[tuple[str, HostAddress]]:
    """Yield name and address of the I/O threads.

    The user's are below ``/objects``; those that QEMU makes itself, such as the monitor's, hang in
    a tree that users do not see. It is made when first used (qom/object.c,
    object_get_internal_root()).

    :raises VringcoreError: after the last that can be reached, if others cannot be
    """
    problems: list[VringcoreError] = []
    roots: list[Callable[[], HostAddress | None]] = [
        lambda: objects.find("/objects"),
        lambda: _internal_root(views),
    ]
    for find in roots:
        try:
            root = find()
        except VringcoreError as problem:
            problems.append(problem)
            continue
        children, error = collect(objects.children(root)) if root else ([], None)
        problems += [] if error is None else [error]
        for name, address in children:
            try:
                if objects.is_a(address, "iothread"):
                    yield name, address
            except VringcoreError as problem:
                problems.append(problem)
    if problems:
        raise problems[0]


def _internal_root(views: Views) -> HostAddress | None:
    place = views.find_address_of("internal_root", "qom/object.c", "object_get_internal_root")
    return None if place is None else views.pointer(place)


def _plain(name: str | None) -> str:
    """Return a function's name without what compilers add: ``.isra.0``, ``.lto_priv.1``."""
    return (name or "").partition(".")[0]
