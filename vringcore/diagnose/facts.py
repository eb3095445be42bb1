"""A report with its parts joined: what the rules ask."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import UNSET

from vringcore.diagnose import stacks
from vringcore.diagnose.held import Held, Line
from vringcore.diagnose.strays import strays
from vringcore.diagnose.values import lack, many, number, text
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.model.block import BackendState, Engine, Job, Node, ThrottleGroup
    from vringcore.model.coroutines import Coroutine
    from vringcore.model.devices import Device
    from vringcore.model.locks import Lock
    from vringcore.model.loops import EventLoop, Handler
    from vringcore.model.machine import Interrupts, Migration
    from vringcore.model.report import Report
    from vringcore.model.threads import Thread

_T = TypeVar("_T")

SLOW_NS = 2_000_000_000
"""A request in flight for longer is worth asking after: disks answer within milliseconds."""

LONG_NS = 30_000_000_000
"""For so long Linux's drivers of disks wait before they take a command for lost."""

RUNNING = "running"
INCOMING = "inmigrate"

RUNS, SLEEPING = "R", "S"
"""The kernel's letters for the state of a thread, of a process that was captured live."""

VCPU_WAITS = frozenset({"qemu_wait_io_event", "qemu_process_cpu_events"})
"""Where a vCPU's thread waits for work outside of KVM; the second since 10.2 (system/cpus.c)."""

QEMU = "qemu"

CAPTURED_RUNNING = "the process ran on while it was captured"
"""A limitation of captures; it is there if something had changed meanwhile."""

RAN_ON = "the process worked on while it was captured: take a second one and compare"

CONFIDENTIAL = (
    *("sev-snp-guest", "sev-guest", "tdx-guest", "s390-pv-guest", "pef-guest", "rme-guest"),
    *("confidential-guest-support=", "memory-encryption="),
)
"""Objects and options that make the guest's memory unreadable to QEMU."""


class Facts:
    """The parts of one report, looked up by what joins them."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._kept: dict[str, Any] = {}
        self.devices: tuple[Device, ...] = many(report.devices)
        self.threads: tuple[Thread, ...] = many(report.threads)
        self.coroutines: tuple[Coroutine, ...] = many(report.coroutines)
        self.loops: tuple[EventLoop, ...] = many(report.event_loops)
        self.locks: tuple[Lock, ...] = many(report.locks)
        block, machine = report.block, report.machine
        self.nodes: tuple[Node, ...] = many(getattr(block, "nodes", None))
        self.engines: tuple[Engine, ...] = many(getattr(block, "engines", None))
        self.throttle_groups: tuple[ThrottleGroup, ...] = many(
            getattr(block, "throttle_groups", None)
        )
        self.backends: tuple[BackendState, ...] = many(getattr(block, "backends", None))
        self.jobs: tuple[Job, ...] = many(getattr(block, "jobs", None))
        self.migrations: tuple[Migration, ...] = many(getattr(machine, "migrations", None))
        self.interrupts: tuple[Interrupts, ...] = many(getattr(machine, "interrupts", None))

    def missing(self, part: str) -> str:
        """Return why a part of the report is not there, "" if it is.

        :param part: as :meth:`vringcore.Core.report` names it; ``block.nodes`` names what lies in
            one; ``guest`` is missing while the VM does not run, ``stillness`` if the process worked
            on while it was captured, so that what was read first need not fit what was read last
        """
        if part == "stillness":
            return RAN_ON if self.is_moving else ""
        if part == "guest":
            state = self.run_state
            return "" if state == RUNNING else f"the VM does not run: {state or 'unknown'}"
        whole, _, inner = part.partition(".")
        if whole in ("queues", "requests"):
            return self._missing_in_devices(whole)
        value = getattr(self.report, whole.replace("-", "_"), UNSET)
        return lack(value) or (lack(getattr(value, inner, UNSET)) if inner else "")

    def _missing_in_devices(self, part: str) -> str:
        reason = lack(self.report.devices)
        if reason or not self.devices:
            return reason
        if part == "queues":
            asked = any(device.queues is not UNSET for device in self.devices)
        else:
            asked = any(line.queue.in_flight is not UNSET for line in self.lines)
            asked = asked or not self.lines
        return "" if asked else "not asked for"

    # Queues and requests

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Every queue that is set up."""
        return tuple(
            Line(device, queue)
            for device in self.devices
            for queue in many(device.queues)
            if queue.ring_state != "not-set-up"
        )

    @cached_property
    def own_lines(self) -> tuple[Line, ...]:
        """The queues whose indices QEMU itself moves, of devices whose driver is ready."""
        return tuple(
            line
            for line in self.lines
            if line.queue.ring_owner == QEMU and is_ready(line.device) and not is_gone(line.device)
            if line not in self.moved_lines
        )

    @cached_property
    def moved_lines(self) -> tuple[Line, ...]:
        """The queues that moved while a running process was captured: they are at work.

        QEMU's index of what it gave back and the one in guest memory were read one after the other,
        and differ.
        """
        ran_on = any(limit.what == CAPTURED_RUNNING for limit in self.report.limits)
        return tuple(line for line in self.lines if line.is_between) if ran_on else ()

    @property
    def is_moving(self) -> bool:
        """Whether the process is known to have worked while it was captured."""
        return bool(self.moved_lines)

    @cached_property
    def live_lines(self) -> tuple[Line, ...]:
        """Those of them that the guest can kick and consume from: it runs."""
        return tuple(
            line
            for line in self.own_lines
            if self.guest_runs(line.device) and not line.is_scrambled
        )

    @cached_property
    def confidential(self) -> str:
        """What on the command line encrypts the guest's memory, "" for nothing."""
        given = many(self.report.qemu.command_line)
        return next((word for word in CONFIDENTIAL if any(word in each for each in given)), "")

    def guest_runs(self, device: Device) -> bool:
        """Tell whether the guest can kick this device and see what it completes."""
        return self.run_state == RUNNING and device.vm_running is not False

    @cached_property
    def elements(self) -> tuple[Held, ...]:
        """Every element in flight that was identified."""
        return tuple(
            Held(line.device, line, each)
            for line in self.lines
            for each in many(line.queue.in_flight)
        )

    @cached_property
    def requests(self) -> tuple[Held, ...]:
        """Every request in flight: the elements, and what else their disks are at."""
        return (*self.elements, *strays(self))

    def moves(self, device: Device) -> bool:
        """Tell whether the guest works on a device: it publishes and consumes while a vCPU runs."""
        if any(line.device.index == device.index for line in self.moved_lines):
            return True
        return self.guest_works and any(
            0 < (line.count(name) or 0) <= (number(line.queue.size) or 0)
            for line in self.own_lines
            for name in ("unseen", "past_used_event")
            if line.device.index == device.index and not line.waits_by_design
        )

    def requests_in(self, place: str, *, having: str = "") -> tuple[Held, ...]:
        """Return the requests whose innermost place is ``place``, its detail holding a text."""
        return tuple(
            held
            for held in self.requests
            if held.last is not None and held.last.place == place and having in held.last.detail
        )

    def device(self, index: int | None) -> Device | None:
        """Return a device by its number."""
        return None if index is None else self._devices.get(index)

    @cached_property
    def _devices(self) -> dict[int, Device]:
        return {device.index: device for device in reversed(self.devices)}

    # The machine

    def once(self, key: str, make: Callable[[Facts], _T]) -> _T:
        """Return what ``make`` gives for these facts; it is asked once for each key."""
        if key not in self._kept:
            self._kept[key] = make(self)
        found: _T = self._kept[key]
        return found

    @cached_property
    def guest_idles(self) -> bool:
        """Whether every vCPU is known to wait for something to happen while the VM runs."""
        threads = self.with_role("vcpu")
        idle = [self._idles(thread) for thread in threads]
        return self.run_state == RUNNING and bool(idle) and all(idle)

    @cached_property
    def guest_works(self) -> bool:
        """Whether some vCPU is known to run: what it just did may not have arrived yet."""
        return any(_runs(thread) for thread in self.with_role("vcpu"))

    def _idles(self, thread: Thread) -> bool:
        if _in_kvm(thread):
            # In KVM_RUN it sleeps while the guest's processor is halted; cores do not tell.
            return thread.state == SLEEPING
        # TCG's threads wait here for work.
        if VCPU_WAITS.isdisjoint(stacks.names(thread)):
            return False
        vcpus = {vcpu.lwp: vcpu for vcpu in many(getattr(self.report.machine, "vcpus", None))}
        vcpu = vcpus.get(thread.lwp)
        return vcpu is None or vcpu.halted is not False

    @cached_property
    def run_state(self) -> str:
        """QAPI's RunState, "" if it is not known."""
        return text(getattr(self.report.machine, "run_state", "")) or text(
            self.report.qemu.run_state
        )

    @property
    def is_incoming(self) -> bool:
        """Whether the VM is being moved here: its queues may not be loaded yet (G7)."""
        return self.run_state == INCOMING

    # Threads

    def thread(self, lwp: int | None) -> Thread | None:
        """Return a thread by its number."""
        return None if lwp is None else self._threads.get(lwp)

    @cached_property
    def _threads(self) -> dict[int, Thread]:
        return {thread.lwp: thread for thread in self.threads}

    def with_role(self, role: str) -> tuple[Thread, ...]:
        """Return the threads of a role."""
        return tuple(thread for thread in self.threads if thread.role == role)

    def motion_in(self, device: Device) -> str:
        """Return which thread runs code of a device's kind, "" if none does.

        A core is of one moment: what such a thread was changing may look wrong in it.
        """
        prefix = device.kind.replace("-", "_")
        for thread in self.threads:
            if not stacks.sleeps(thread) and any(
                f.function and f.function.startswith((prefix, "virtio_queue_notify"))
                for f in thread.frames
            ):
                return f"thread {thread.lwp} is in code of {device.kind}"
        return ""

    # Event loops

    @cached_property
    def handlers(self) -> dict[tuple[int, int], list[tuple[EventLoop, Handler]]]:
        """What watches the kicks of each queue: by the numbers of its device and itself."""
        found: dict[tuple[int, int], list[tuple[EventLoop, Handler]]] = {}
        for loop, handler in self._all_handlers():
            joined = handler.queue
            if joined is not None and joined.side == "host-notifier":
                found.setdefault((joined.device, joined.queue), []).append((loop, handler))
        return found

    def _all_handlers(self) -> Iterator[tuple[EventLoop, Handler]]:
        for loop in self.loops:
            for handler in many(loop.handlers):
                yield loop, handler

    def loop(self, address: int | None) -> EventLoop | None:
        """Return an event loop by its address."""
        return None if address is None else self._loops.get(int(address))

    @cached_property
    def _loops(self) -> dict[int, EventLoop]:
        return {int(loop.address): loop for loop in reversed(self.loops)}

    # Coroutines and nodes

    @cached_property
    def coroutine_of_tracked(self) -> dict[int, int]:
        """The coroutine of each tracked request, by the request's address."""
        return {
            int(tracked.address): int(tracked.coroutine)
            for node in self.nodes
            for tracked in many(node.tracked)
        }

    def node(self, name: str) -> Node | None:
        """Return a block node by its name."""
        return self._nodes.get(name)

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.name: node for node in reversed(self.nodes)}

    def big_lock(self) -> Lock | None:
        """Return QEMU's big lock if it is held or waited for."""
        return next((lock for lock in self.locks if lock.name == "BQL"), None)


def _runs(thread: Thread) -> bool:
    """Tell whether a vCPU's thread is known to run its guest."""
    if _in_kvm(thread):
        return thread.state == RUNS
    path = stacks.names(thread)
    return bool(path) and VCPU_WAITS.isdisjoint(path) and not stacks.waits_for_lock(thread)


def _in_kvm(thread: Thread) -> bool:
    return "kvm_cpu_exec" in stacks.names(thread)


def is_gone(device: Device) -> bool:
    """Tell whether nobody serves a device, since its vhost-user back-end went away."""
    return device.ring_owner == "vhost-user-disconnected"


def is_ready(device: Device) -> bool:
    """Tell whether the driver said that it is ready (VirtIO 1.3, 2.1); a status unknown is not."""
    status = device.status
    return not isinstance(status, Absent) and "DRIVER_OK" in status.names
