"""Reports made from the few facts that a case is about; the rest is a healthy VM at rest."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from vringcore.diagnose.engine import Diagnosis, diagnose
from vringcore.model.block import BackendState, BlockState, Job, Node, TrackedRequest
from vringcore.model.coroutines import Coroutine
from vringcore.model.devices import Backend, Device
from vringcore.model.findings import Finding
from vringcore.model.locks import Lock
from vringcore.model.loops import BottomHalf, EventLoop, Handler, QueueNotifier
from vringcore.model.queues import Counts, Queue, SplitGuest
from vringcore.model.report import CoreInfo, QemuInfo, Report, Tool
from vringcore.model.requests import Age, InFlight, Waiting
from vringcore.model.threads import Frame, SystemCall, Thread, Variable
from vringcore.model.values import Address, Flags, Pointer

SECOND = 1_000_000_000

READY = Flags(Address(0xF), ("ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK"))

SLEEP = ("ppoll", "fdmon_poll_wait", "aio_poll", "iothread_run", "qemu_thread_start")
MAIN_SLEEP = ("ppoll", "qemu_poll_ns", "os_host_main_loop_wait", "main_loop_wait", "main")
IDLE_VCPU = ("futex_wait", "qemu_cond_wait_impl", "qemu_wait_io_event", "mttcg_cpu_thread_fn")
BUSY_VCPU = ("cpu_exec", "tcg_cpus_exec", "mttcg_cpu_thread_fn")

MAIN, IOTHREAD, VCPU, MIGRATION = 100, 101, 102, 103
"""Numbers of threads."""


def report(*devices: Device, run_state: str = "running", **parts: Any) -> Report:
    """Return a report with these devices and parts."""
    return Report(
        tool=Tool("vringcore", "0"),
        core=CoreInfo("core.1", 1, "gcore", "x86_64", "", "", True, "present", 1, ()),
        qemu=QemuInfo("8.2.0", "pc-q35-8.2", (), 1, "vm", None, run_state, "none"),
        devices=devices,
        **parts,
    )


def queue(
    index: int = 0,
    *,
    avail: int = 1000,
    last_avail: int | None = None,
    used: int | None = None,
    inuse: int = 0,
    guest_used: int | None = None,
    used_event: int | None = None,
    **members: Any,
) -> Queue:
    """Return a split queue of 256 entries by its indices, its counts worked out from them.

    By default it is idle: all that was published was taken and given back, and the driver waits at
    the last of it.
    """
    last_avail = avail if last_avail is None else last_avail
    used = (last_avail - inuse) % 65536 if used is None else used
    guest_used = used if guest_used is None else guest_used
    event = guest_used if used_event is None else used_event
    popped = (last_avail - used) % 65536
    counts = Counts(
        unseen=(avail - last_avail) % 65536,
        popped=popped,
        in_use=inuse,
        unidentified=None,
        leaked=(popped - inuse) % 65536 if popped >= inuse else 0,
        past_used_event=(guest_used - event) % 65536,
    )
    values: dict[str, Any] = {
        "role": f"requests{index}",
        "ring": "split",
        "ring_state": "ready",
        "size": 256,
        "shadow_avail_idx": last_avail,
        "signalled_used": used,
        "signalled_used_valid": True,
        "notification": True,
        "vector": index + 1,
        "handle_output": "virtio_blk_handle_output",
        "guest": SplitGuest(avail, 0, guest_used, 0, event, last_avail),
        "counts": counts,
    }
    return Queue(
        index=index,
        address=Address(0x5640E4240000 + 0x98 * index),
        last_avail_idx=last_avail,
        used_idx=used,
        in_use=inuse,
        **{**values, **members},
    )


def device(*queues: Queue, kind: str = "virtio-blk", index: int = 0, **members: Any) -> Device:
    """Return a device on PCI that QEMU serves, its driver ready."""
    values: dict[str, Any] = {
        "id": f"disk{index}",
        "status": READY,
        "broken": False,
        "vm_running": True,
        "ring_owner": "qemu",
        "iothread": "io0",
        "backend": None,
        "disks": (),
    }
    return Device(
        index=index,
        kind=kind,
        type_name=f"{kind}-device",
        qom_path=f"/machine/peripheral/disk{index}/virtio-backend",
        address=Address(0x5640E4235F80 + index),
        transport="pci",
        pci_address=f"0000:00:0{index}.0",
        device_id=2,
        host_features=Flags(Address(0), ()),
        guest_features=Flags(Address(0), ()),
        found_by=("qom-tree",),
        queues=queues,
        **{**values, **members},
    )


def backend(*, in_flight: int = 0, quiesced: int = 0, status: str = "ok") -> Backend:
    """Return a disk's back-end on an NBD node."""
    return Backend(
        Address(0x5640E423A180), None, "nbd0", "nbd", "nbd://server", in_flight, quiesced, status
    )


def request(place: str, detail: str = "", *, head: int = 0, age: float | None = None) -> InFlight:
    """Return a request that waits in one place, its age in seconds a lower bound."""
    tracked = Waiting("tracked-request", Address(0x7F0000000000 + head), "nbd0", "write")
    return InFlight(
        head=head,
        source="element",
        summary="write 8 sectors at 64 (4096 bytes)",
        waits_in=(tracked, Waiting(place, Address(0x7F1000000000 + head), "nbd0", detail)),
        age=None if age is None else Age(int(age * SECOND), exact=False),
    )


def thread(
    lwp: int, role: str, *functions: str, call: SystemCall | None = None, name: str | None = None
) -> Thread:
    """Return a thread by the functions of its stack, innermost first."""
    frames = tuple(Frame(Address(1), each, None, None, False, "qemu", "cfi") for each in functions)
    return Thread(lwp, None, role, "S", role, name, 0, call, (), frames, "outermost")


def with_argument(of: Thread, function: str, name: str, address: int) -> Thread:
    """Return a thread of whose functions one was given a pointer."""
    given = Variable(name, "void *", Pointer(Address(address)))
    frames = tuple(
        replace(frame, arguments=(given,)) if frame.function == function else frame
        for frame in of.frames
    )
    return replace(of, frames=frames)


def asleep() -> tuple[Thread, ...]:
    """Return the threads of a VM in which nothing happens."""
    return (
        thread(MAIN, "main-loop", *MAIN_SLEEP),
        thread(IOTHREAD, "iothread", *SLEEP, name="io0"),
        thread(VCPU, "vcpu", *IDLE_VCPU, name="0"),
    )


def futex(symbol: str) -> SystemCall:
    """Return the call of a thread that waits for a lock in a variable."""
    return SystemCall(202, "futex", {"address": Pointer(Address(0x55), symbol)})


def loop(
    *, watched: tuple[int, ...] = (0,), live: bool = True, polling: bool = False, **members: Any
) -> EventLoop:
    """Return the I/O thread's event loop, which watches the kicks of queues of device 0."""
    values: dict[str, Any] = {
        "notified": False,
        "external_disabled": 0,
        "bottom_halves": (),
        "timers": (),
        "scheduled": (),
    }
    handlers = tuple(
        Handler(
            Address(0x100 + index),
            188 + index,
            ("in",),
            "virtio_queue_host_notifier_read",
            None,
            None,
            Address(1),
            live,
            True,
            queue=QueueNotifier(0, index, "host-notifier"),
        )
        for index in watched
    )
    return EventLoop(
        address=Address(0x5640E315A720),
        name="io0",
        lwp=IOTHREAD,
        waits_by="poll",
        polling=polling,
        poll_max_ns=0,
        notify_me=2,
        handlers=handlers,
        **{**values, **members},
    )


def bottom_half(*flags: str) -> BottomHalf:
    """Return a bottom half with these flags."""
    return BottomHalf(Address(0x200), None, "thread_pool_completion_bh", Address(1), flags)


def lock(address: int, name: str, owner: int | None, *waiters: int) -> Lock:
    """Return a lock by who holds it and who waits for it."""
    return Lock(Address(address), "mutex", name, owner, waiters=waiters)


def block(**parts: Any) -> BlockState:
    """Return a block layer with these parts, the others empty."""
    values: dict[str, Any] = {
        "backends": (),
        "nodes": (),
        "throttle_groups": (),
        "engines": (),
        "jobs": (),
        "drain_all_count": 0,
    }
    return BlockState(**{**values, **parts})


def node(*tracked: TrackedRequest, **members: Any) -> Node:
    """Return the node ``nbd0``."""
    values: dict[str, Any] = {
        "driver": "nbd",
        "file": None,
        "event_loop": Address(0x5640E315A720),
        "in_flight": len(tracked),
        "quiesce_counter": 0,
        "parents": (),
        "children": (),
        "flushes": (),
    }
    return Node(
        address=Address(0x5640E339E720), name="nbd0", tracked=tracked, **{**values, **members}
    )


IO_LOOP = Address(0x5640E315A720)
"""The I/O thread's event loop, as :func:`loop` makes it."""


def coroutine(address: int, *functions: str, **members: Any) -> Coroutine:
    """Return a coroutine that sleeps, by the functions of its stack, innermost first."""
    names = (*functions, "coroutine_trampoline")
    frames = tuple(
        Frame(Address(1), each, None, None, False, "qemu", "cfi", Address(0x8000 + 0x40 * place))
        for place, each in enumerate(names)
    )
    values: dict[str, Any] = {
        "entry": "blk_aio_write_entry",
        "state": "suspended",
        "event_loop": IO_LOOP,
        "found_by": ("tracked-request",),
        "caller": None,
        "waits_in": (),
        "locks_held": 0,
        "frames_end": "outermost",
    }
    return Coroutine(address=Address(address), frames=frames, **{**values, **members})


def backend_state(disk: Backend, **members: Any) -> BackendState:
    """Return what a disk's back-end is at: nothing, in the I/O thread's event loop."""
    values: dict[str, Any] = {
        "device": "/machine/peripheral/disk0/virtio-backend",
        "event_loop": IO_LOOP,
        "on_read_error": "report",
        "on_write_error": "enospc",
        "queued": (),
        "queuing_disabled": 0,
        "throttle_group": None,
    }
    return BackendState(backend=disk, **{**values, **members})


def job(**members: Any) -> Job:
    """Return a mirror that runs."""
    values: dict[str, Any] = {
        "id": "mirror0",
        "kind": "mirror",
        "address": Address(0x700),
        "status": "running",
        "coroutine": Address(0x800),
        "pause_count": 0,
        "paused": False,
        "busy": True,
        "cancelled": False,
        "nodes": ("nbd0",),
    }
    return Job(**{**values, **members})


def codes(found: Report | Diagnosis, *severities: str) -> set[str]:
    """Return the codes of the findings, of these severities if any are named."""
    return {each.code for each in findings(found) if not severities or each.severity in severities}


def findings(found: Report | Diagnosis) -> tuple[Finding, ...]:
    """Return the findings of a report; no rule may have failed."""
    diagnosis = diagnose(found) if isinstance(found, Report) else found
    assert diagnosis.limits == ()
    return diagnosis.findings


def finding(found: Report | Diagnosis, code: str) -> Finding:
    """Return the one finding of a code."""
    (one,) = (each for each in findings(found) if each.code == code)
    return one


ALARMS = ("stuck", "fault", "warning")
"""Severities that are no mere notes."""
