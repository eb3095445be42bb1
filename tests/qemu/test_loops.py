"""Event loops and the machine around them in cores that lie, and what the lab's do not show."""

from __future__ import annotations

import copy
import socket
import time
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.cores import lab_cores
from tests.qemu.damaged import Hidden, Patched, core_over
from tests.qemu.test_damage import Lying
from vringcore.addresses import HostAddress
from vringcore.api import Core
from vringcore.errors import VringcoreError
from vringcore.layout.bundle import get_type, put_type
from vringcore.layout.provider import Layouts
from vringcore.layout.types import Record
from vringcore.model.loops import EventLoop
from vringcore.model.machine import Interrupts, Machine
from vringcore.model.values import Absent, encode
from vringcore.qemu.block import BlockLayer
from vringcore.qemu.discovery import find_virtio_devices
from vringcore.qemu.loop_structs import QEMUBH, AioHandler, EventLoopContext, IOThreadLoop
from vringcore.qemu.loops_owners import socket_address
from vringcore.qemu.loops_words import BH_FLAGS, POLL_EVENTS, names_of
from vringcore.qemu.machine_structs import CPURunState, PCIInterrupts, VirtIOIRQFD, VirtIOPCIVectors
from vringcore.qemu.machine_structs import OutgoingMigration as Migration
from vringcore.qemu.pci import proxy_of
from vringcore.qemu.qom import ObjectModel
from vringcore.qemu.roles import iothreads
from vringcore.qemu.structs import Object, TypeImpl
from vringcore.qemu.thread_structs import CPUS
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.lab.cases import CoreCase
    from vringcore.memory.space import HostSpace
    from vringcore.qemu.process import Process
    from vringcore.view.declare import View

WILD = 0x4141_4141_4141_4141
SECONDS = 20


def word(number: int) -> bytes:
    return number.to_bytes(8, "little")


# Without a core


def test_words_for_bits() -> None:
    assert names_of(0b11011, BH_FLAGS) == ("pending", "scheduled", "oneshot", "idle")
    assert names_of(0x2004, POLL_EVENTS) == ("out", "bit 13")
    assert names_of(0, POLL_EVENTS) == ()


def test_socket_addresses() -> None:
    family = {name: getattr(socket, name) for name in ("AF_UNIX", "AF_INET", "AF_INET6")}
    short = {name: int(number).to_bytes(2, "little") for name, number in family.items()}
    port = (10809).to_bytes(2, "big")
    assert socket_address(short["AF_UNIX"] + b"/run/nbd.sock\0rest") == "/run/nbd.sock"
    assert socket_address(short["AF_UNIX"] + b"\0abstract") == "@abstract"
    assert socket_address(short["AF_UNIX"]) == ""
    four = short["AF_INET"] + port + socket.inet_pton(socket.AF_INET, "192.0.2.7") + bytes(8)
    assert socket_address(four) == "192.0.2.7:10809"
    six = socket.inet_pton(socket.AF_INET6, "2001:db8::17")
    words = socket_address(short["AF_INET6"] + port + bytes(4) + six + bytes(4))
    host, told = words.removeprefix("[").split("]:")
    assert (IPv6Address(host), told) == (IPv6Address("2001:db8::17"), "10809")
    assert (
        socket_address(b"") == socket_address(short["AF_INET"]) == socket_address(b"\xff" * 9) == ""
    )
    assert socket_address(four[:2][::-1] + four[2:], big_endian=True) == "192.0.2.7:10809"


# With one


@pytest.fixture(
    scope="module",
    params=lab_cores(lambda core: core.case.scenario == "stuck-migration" and core.while_alive),
)
def process(request: pytest.FixtureRequest) -> Iterator[Process]:
    case: CoreCase = request.param
    opened = case.open_process()
    yield opened
    opened.close()


def place(process: Process, view: type[View], address: int, path: str) -> int:
    return address + process.views.offset(view.c_type, path, view.unit)


def loop_at(process: Process, name: str) -> int:
    """Return the AioContext of an I/O thread."""
    found = dict(iothreads(process.views, process.objects))
    return int(process.views.at(IOThreadLoop, found[name]).ctx)


def loops_over(process: Process, space: HostSpace) -> tuple[dict[object, EventLoop], str]:
    report = core_over(process, space).report({"event-loops"})
    assert isinstance(report.event_loops, tuple)
    limits = "; ".join(f"{limit.what}: {limit.why}" for limit in report.limits)
    return {str(loop.name): loop for loop in report.event_loops}, limits


def patched(process: Process, patches: Mapping[int, bytes]) -> HostSpace:
    return Patched(process.views.space, patches)


def first_handler(process: Process, loop: int) -> int:
    head = place(process, EventLoopContext, loop, "aio_handlers")
    return int(process.views.pointer(head))


def test_a_list_that_runs_into_itself(process: Process) -> None:
    loop = loop_at(process, "io0")
    first = first_handler(process, loop)
    patches = {place(process, AioHandler, first, "node"): word(first)}
    loops, limits = loops_over(process, patched(process, patches))
    assert len(tuple(loops["io0"].handlers)) == 1
    assert "not all handlers of the event loop io0 are shown" in limits
    assert "runs into itself" in limits
    assert len(tuple(loops["mon_iothread"].handlers)) == 1


def test_a_list_that_begins_nowhere(process: Process) -> None:
    loop = loop_at(process, "io0")
    heads = ("aio_handlers", "bh_list", "scheduled_coroutines", "tlg.tl")
    patches = {place(process, EventLoopContext, loop, head): word(WILD) for head in heads}
    loops, limits = loops_over(process, patched(process, patches))
    lost = loops["io0"]
    for part in (lost.handlers, lost.bottom_halves, lost.scheduled, lost.timers):
        assert isinstance(part, Absent)
        assert part.reason == "unmapped"
    assert lost.notify_me == 2
    assert limits.count("of the event loop io0 are shown") == len(heads)


def test_callbacks_that_are_none(process: Process) -> None:
    loop = loop_at(process, "io0")
    first = first_handler(process, loop)
    patches = {
        place(process, AioHandler, first, "io_read"): word(WILD),
        place(process, AioHandler, first, "opaque"): word(WILD),
        place(process, AioHandler, first, "pfd.events"): bytes(2),
    }
    loops, limits = loops_over(process, patched(process, patches))
    handler = next(iter(loops["io0"].handlers))
    assert isinstance(handler.read, Absent)
    assert handler.read.reason == "no-symbol"
    assert (handler.owner, handler.queue, handler.events, handler.live) == ("", None, (), False)
    assert not limits


def test_a_deleted_handler_is_not_live(process: Process) -> None:
    first = first_handler(process, loop_at(process, "io0"))
    loops, _ = loops_over(process, process.views.space)
    assert next(iter(loops["io0"].handlers)).live
    patches = {place(process, AioHandler, first, "node_deleted.le_prev"): word(first)}
    loops, _ = loops_over(process, patched(process, patches))
    assert not next(iter(loops["io0"].handlers)).live


def test_bottom_halves_that_were_taken(process: Process) -> None:
    """A slice of the main loop's other context: its list, moved to where a running loop has it."""
    views = process.views
    loop = int(views.pointer(views.address_of("iohandler_ctx", "util/main-loop.c")))
    head = place(process, EventLoopContext, loop, "bh_list")
    half = int(views.pointer(head))
    assert half, "the loop has a bottom half that waits"
    room = loop_at(process, "mon_iothread") + views.offset("struct AioContext", "poll_max_ns")
    patches = {
        head: word(0),
        place(process, EventLoopContext, loop, "bh_slice_list"): word(room),
        room: word(half) + word(0),
    }
    loops, _ = loops_over(process, patched(process, patches))
    (taken,) = loops["iohandler"].bottom_halves
    assert (taken.address, taken.taken) == (half, True)
    assert taken.flags == ("pending", "scheduled")
    other = {place(process, QEMUBH, half, "flags"): (0b100100).to_bytes(4, "little")}
    loops, _ = loops_over(process, patched(process, other))
    (changed,) = loops["iohandler"].bottom_halves
    assert (changed.taken, changed.flags) == (False, ("deleted", "bit 5"))


def test_a_loop_that_is_none(process: Process) -> None:
    views = process.views
    variable = views.address_of("qemu_aio_context", "util/main-loop.c")
    for elsewhere in (WILD, int(views.address_of("main_loop_tlg", "util/qemu-timer.c"))):
        loops, limits = loops_over(process, patched(process, {variable: word(elsewhere)}))
        assert "the event loop main is not shown" in limits
        assert {"iohandler", "io0", "mon_iothread"} <= set(loops)
        # The thread's own variable still leads to it, where QEMU has one (since 6.1).
        own = map(views.layouts.find_variable, ("co_tls_my_aiocontext", "my_aiocontext"))
        assert len(loops) == (4 if any(own) else 3)


def test_a_loop_of_which_half_is_missing(process: Process) -> None:
    loop = loop_at(process, "io0")
    start = place(process, EventLoopContext, loop, "tlg.tl")
    end = place(process, EventLoopContext, loop, "fdmon_ops") + 8
    loops, _ = loops_over(process, Hidden(process.views.space, [(start, end)]))
    lost = loops["io0"]
    assert isinstance(lost.timers, Absent)
    assert isinstance(lost.polling, Absent)
    assert isinstance(lost.waits_by, Absent)
    assert lost.waits_by.reason == "truncated"
    assert lost.notify_me == 2


def test_no_thread_runs_it(process: Process) -> None:
    """A thread that is not in the core is nobody's."""
    other = copy.copy(process)
    other.core = copy.copy(process.core)
    assert process.core.prpsinfo is not None
    first = process.core.prpsinfo.pid
    other.core.threads = [each for each in process.core.threads if each.lwp == first]
    report = Core(other).report({"event-loops", "machine"})
    assert isinstance(report.event_loops, tuple)
    assert isinstance(report.machine, Machine)
    lwps = {str(loop.name): loop.lwp for loop in report.event_loops}
    assert lwps == {"main": first, "iohandler": first, "io0": None, "mon_iothread": None}
    assert {cpu.lwp for cpu in report.machine.vcpus} == {None}
    assert [migration.lwp for migration in report.machine.migrations] == [None]


def test_threads_whose_registers_nobody_took(process: Process) -> None:
    """They are joined by the number that QEMU, or the C library, has of them."""
    with_registers = Core(process).report({"event-loops", "machine"})
    other = copy.copy(process)
    other.core = copy.copy(process.core)
    other.core.threads = [
        msgspec.structs.replace(each, fs_base=None) for each in process.core.threads
    ]
    without = Core(other).report({"event-loops", "machine"})
    assert isinstance(without.machine, Machine)
    assert all(cpu.lwp for cpu in without.machine.vcpus)
    assert all(migration.lwp for migration in without.machine.migrations)
    assert without.event_loops == with_registers.event_loops
    assert without.machine == with_registers.machine


def without_members(process: Process, gone: Mapping[str, set[str]]) -> Core:
    """Return the core as of a build whose structures lack some members."""
    Core(process).report({"event-loops", "machine"})  # the bundle learns what they ask
    bundle = msgspec.structs.replace(process.views.layouts.bundle)
    bundle.types = dict(bundle.types)
    for key, names in gone.items():
        typed = get_type(bundle, key)
        assert typed is not None
        assert isinstance(typed.definition, Record)
        kept = tuple(each for each in typed.definition.members if each.name not in names)
        assert len(typed.definition.members) - len(kept) == len(names)
        record = msgspec.structs.replace(typed.definition, members=kept)
        put_type(bundle, key, msgspec.structs.replace(typed, definition=record))
    other = copy.copy(process)
    views = process.views
    other.views = Views(views.space, Layouts(bundle), views.bias, views.symbols)
    other.objects = ObjectModel(other.views)
    other.block = BlockLayer(other.views)
    return Core(other)


def test_members_that_a_build_does_not_have(process: Process) -> None:
    """Names of bottom halves (QEMU 5.2), engines that were not configured; and what must be."""
    optional = {"struct AioContext": {"linux_aio"}}
    whole = Core(process).report({"event-loops"})
    half = get_type(process.views.layouts.bundle, "struct QEMUBH")
    assert half is not None
    assert isinstance(half.definition, Record)
    if any(member.name == "name" for member in half.definition.members):
        optional["struct QEMUBH"] = {"name"}
    report = without_members(process, optional).report({"event-loops"})
    assert not report.limits
    assert isinstance(report.event_loops, tuple)
    assert isinstance(whole.event_loops, tuple)
    for loop, known in zip(report.event_loops, whole.event_loops, strict=True):
        nameless = tuple(msgspec.structs.replace(h, name=None) for h in known.bottom_halves)
        assert loop == msgspec.structs.replace(known, bottom_halves=nameless)
    needed = {"struct AioContext": {"poll_max_ns", "aio_handlers"}}
    report = without_members(process, needed).report({"event-loops"})
    assert isinstance(report.event_loops, tuple)
    for loop in report.event_loops:
        assert isinstance(loop.poll_max_ns, Absent)
        assert isinstance(loop.handlers, Absent)
        assert loop.handlers.reason == "not-in-this-build"
        assert not isinstance(loop.timers, Absent)


def test_a_migration_of_another_build(process: Process) -> None:
    """Without ``migration_thread_running`` the thread is the one whose ``pthread_t`` it has."""
    gone = {"struct MigrationState": {"migration_thread_running"}}
    report = without_members(process, gone).report({"machine"})
    assert isinstance(report.machine, Machine)
    assert report.machine.migrations == machine_over(process, process.views.space).migrations


# The machine


def machine_over(process: Process, space: HostSpace) -> Machine:
    report = core_over(process, space).report({"machine"})
    assert isinstance(report.machine, Machine)
    return report.machine


def proxy(process: Process) -> int:
    """Return the proxy of the only device."""
    (device,) = find_virtio_devices(process.views, process.objects)[0]
    found = proxy_of(process.views, process.objects, HostAddress(device.address))
    assert found is not None
    return found.address


def interrupts_over(process: Process, patches: Mapping[int, bytes]) -> Interrupts:
    (found,) = machine_over(process, patched(process, patches)).interrupts
    return found


def test_masked_and_pending_vectors(process: Process) -> None:
    pci = process.views.at(PCIInterrupts, proxy(process))
    patches = {pci.msix_table + 2 * 16 + 12: bytes([1]), pci.msix_pba: bytes([0b10100])}
    found = interrupts_over(process, patches)
    assert [each.vector for each in found.vectors if each.masked] == [2]
    assert [each.vector for each in found.vectors if each.pending] == [2, 4]
    assert [each.used_by for each in found.vectors] == [("config",), ("0",), ("1",), ("2",), ("3",)]


def test_msix_switched_off(process: Process) -> None:
    pci = process.views.at(PCIInterrupts, proxy(process))
    irq = place(process, PCIInterrupts, proxy(process), "irq_state")
    off = {pci.config + pci.msix_cap + 3: b"\0", irq: b"\1", pci.config + 5: b"\4"}
    found = interrupts_over(process, off)
    assert (found.mode, found.line_raised, found.line_disabled) == ("intx", True, True)
    assert (found.function_masked, found.vectors) == (None, ())


def test_a_table_that_is_none(process: Process) -> None:
    table = place(process, PCIInterrupts, proxy(process), "msix_table")
    found = interrupts_over(process, {table: word(WILD)})
    assert found.mode == "msix"
    assert isinstance(found.vectors, Absent)
    assert found.vectors.reason == "unmapped"
    entries = place(process, PCIInterrupts, proxy(process), "msix_entries_nr")
    found = interrupts_over(process, {entries: (0x7FFFFFFF).to_bytes(4, "little")})
    assert isinstance(found.vectors, Absent) or len(found.vectors) == 5


def test_vectors_that_kvm_injects(process: Process) -> None:
    """``vector_irqfd`` is only there under KVM: its entries are laid where QEMU keeps masks."""
    views = process.views
    entry = views.binding(VirtIOIRQFD).type.size
    users = views.offset("typedef VirtIOIRQFD", "users", ("hw/virtio/virtio-pci.c",))
    room = int(views.pointer(place(process, PCIInterrupts, proxy(process), "config"))) + 256
    patches = {place(process, VirtIOPCIVectors, proxy(process), "vector_irqfd"): word(room)}
    patches |= {room + n * entry + users: n.to_bytes(4, "little") for n in range(5)}
    found = interrupts_over(process, patches)
    assert [each.irqfd_users for each in found.vectors] == [0, 1, 2, 3, 4]


def test_kvm(process: Process) -> None:
    """A TCG core whose accelerator is called kvm-accel and whose threads are in KVM_RUN."""
    views, objects = process.views, process.objects
    machine = views.pointer(views.address_of("current_machine"))
    accelerator = views.pointer(machine + views.offset("struct MachineState", "accelerator"))
    type_ = views.pointer(views.at(Object, accelerator).class_)
    name = views.at(TypeImpl, type_).name
    assert views.string(name) == objects.type_name(accelerator) == "tcg-accel"
    other = copy.copy(process)
    other.views = core_over(process, patched(process, {name: b"kvm"}))._process.views
    other.objects = ObjectModel(other.views)
    other.core = copy.copy(process.core)
    vcpus = [cpu.lwp for cpu in machine_over(process, views.space).vcpus]
    calls = {
        vcpus[0]: {"orig_rax": 16, "rdi": 20, "rsi": 0xAE80, "rax": (1 << 64) - 4},
        vcpus[1]: {"orig_rax": 16, "rdi": 20, "rsi": 0xAE80, "rax": 0},  # has just left it
        vcpus[2]: {"orig_rax": 16, "rdi": 20, "rsi": 0x5401, "rax": (1 << 64) - 4},
    }
    other.core.threads = [
        msgspec.structs.replace(each, registers=each.registers | calls.get(each.lwp, {}))
        for each in process.core.threads
    ]
    report = Core(other).report({"machine"})
    assert isinstance(report.machine, Machine)
    assert report.machine.accelerator == "kvm"
    assert [cpu.in_guest for cpu in report.machine.vcpus] == [True, False, False, False]


def test_vcpus_in_a_circle(process: Process) -> None:
    views = process.views
    head = next(p for n, u in CPUS.items() if (p := views.find_address_of(n, u)) is not None)
    first = int(views.pointer(head))
    link = place(process, CPURunState, first, "node")
    report = core_over(process, patched(process, {link: word(first)})).report({"machine"})
    assert isinstance(report.machine, Machine)
    assert [cpu.index for cpu in report.machine.vcpus] == [0]
    assert any("not all vCPUs" in limit.what for limit in report.limits)
    nowhere = machine_over(process, patched(process, {head: word(WILD)}))
    assert isinstance(nowhere.vcpus, Absent)


def test_a_migration_of_an_unknown_status(process: Process) -> None:
    views = process.views
    state = int(views.pointer(views.address_of("current_migration", "migration/migration.c")))
    status = place(process, Migration, state, "state")
    found = machine_over(process, patched(process, {status: (99).to_bytes(4, "little")}))
    # One whose status is lost may never have begun.
    assert isinstance(found.migrations, Absent)
    assert found.migrations.reason == "corrupt"
    running = place(process, Migration, state, "migration_thread_running")
    ended = machine_over(process, patched(process, {running: b"\0"}))
    assert [each.lwp for each in ended.migrations] == [None]
    variable = views.address_of("current_migration", "migration/migration.c")
    lost = machine_over(process, patched(process, {variable: word(WILD)}))
    assert isinstance(lost.migrations, Absent)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("every", [3, 40, 700])
def test_lies_are_answered_in_time(process: Process, seed: int, every: int) -> None:
    started = time.monotonic()
    try:
        core = core_over(process, Lying(process.views.space, seed, every))
        report = core.report({"event-loops", "machine"})
        encode([report.event_loops, report.machine, report.limits])
    except VringcoreError:
        pass
    assert time.monotonic() - started < SECONDS
