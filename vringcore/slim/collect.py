"""Everything that an analysis reads of a process, found by making the analysis and watching it.

Nothing here lists what a verb needs: every question is asked once of a process whose memory and
layouts take note of what they are asked. To that come the things a person goes on to with an
expression or with gdb: each structure whole, the stacks, the list of loaded libraries.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from vringcore.addresses import HostAddress
from vringcore.diagnose.engine import diagnose
from vringcore.elfcore.modules import START
from vringcore.errors import UsageError, VringcoreError
from vringcore.expr.locate import Locator
from vringcore.layout.recorded import RecordedLayouts
from vringcore.memory.trace import Trace
from vringcore.model.report import Report, Tool
from vringcore.model.requests import DeviceRequest
from vringcore.qemu import machine
from vringcore.qemu.absence import attempt
from vringcore.qemu.aio_structs import AioContext
from vringcore.qemu.block_structs import Coroutine
from vringcore.qemu.device_structs import VirtIOBlockReq, VirtQueueElement
from vringcore.qemu.files import ProgramFiles
from vringcore.qemu.guest_structs import MemoryRegion
from vringcore.qemu.guestmap import GuestMap, guest_blocks
from vringcore.qemu.heapscan import MAX_SEGMENTS
from vringcore.qemu.machine_structs import PCIInterrupts
from vringcore.qemu.pci import proxy_of
from vringcore.qemu.process import Process
from vringcore.qemu.requests_devices import read_header_of
from vringcore.qemu.structs import Object, ObjectClass, TypeImpl
from vringcore.qemu.survey import DEVICE_PARTS, PROCESS_PARTS, Survey
from vringcore.qemu.threads import frames_of
from vringcore.slim.linkmap import read_link_map
from vringcore.slim.notes import unnamed_files
from vringcore.slim.stacks import coroutine_stack, thread_stacks
from vringcore.version import VERSION
from vringcore.view.declare import View
from vringcore.view.views import Views
from vringcore.virtio.constants import DESC_F_INDIRECT, DESC_F_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vringcore.elfcore.image import ProcessImage
    from vringcore.layout.provider import Layouts
    from vringcore.layout.store import LayoutStore
    from vringcore.memory.space import HostSpace
    from vringcore.model.devices import Device
    from vringcore.model.requests import BlockRequest
    from vringcore.options import Options
    from vringcore.view.views import Symbols

V = TypeVar("V", bound=View)

LOCALS = frozenset({"threads", "locals"})
"""What nobody sees who does not ask for it: it is asked after what everybody sees."""

MAX_WHOLE = 64 * 1024
"""Structures above this size are kept only as far as they were read."""

PCI_CONFIG_SIZE = 256
"""Bytes of the configuration space that every PCI device has."""


class TracedViews(Views):
    """Views of which every structure is recorded whole, and of a string nothing but the string.

    :ivar coroutines: the coroutines that were met
    :ivar places: size and C type of the structures that were read, by address
    """

    trace: Trace

    def __init__(self, space: HostSpace, layouts: Layouts, bias: int, symbols: Symbols) -> None:
        super().__init__(space, layouts, bias, symbols)
        self.coroutines: dict[int, None] = {}
        self.places: dict[int, tuple[int, str]] = {}

    def at(self, view: type[V], address: int) -> V:
        """Return the view of a structure; see :meth:`Views.at`."""
        found = super().at(view, address)
        size = self.binding(view).type.size
        if size <= MAX_WHOLE:
            self.trace.add(address, size)
            self.places.setdefault(address, (size, view.c_type))
        if view is Coroutine:
            self.coroutines[address] = None
        return found

    def bytes_to_nul(self, address: int, limit: int = 4096) -> bytes:
        """Read a string; see :meth:`Views.bytes_to_nul`."""
        trace, muted = self.trace, self.trace.muted
        trace.muted = True
        try:
            found = super().bytes_to_nul(address, limit)
        finally:
            trace.muted = muted
        trace.add(address, len(found) + 1)
        return found


class TracedProcess(Process):
    """A process that records what is asked of it.

    :ivar trace: what the analysis reads
    :ivar stacks: the stacks, whether or not anything reads them
    :ivar included: what a user asked for beside
    """

    def __init__(
        self,
        core: ProcessImage,
        files: ProgramFiles,
        store: LayoutStore,
        options: Options,
        trace: Trace,
    ) -> None:
        self.trace = trace
        self.stacks = Trace()
        self.included = Trace()
        super().__init__(core, files, store, options)

    def make_views(self, space: HostSpace, layouts: Layouts, bias: int, symbols: Symbols) -> Views:
        """Return the views; see :meth:`Process.make_views`."""
        self.recorded = RecordedLayouts(layouts)
        self.traced = TracedViews(space, self.recorded, bias, symbols)
        self.traced.trace = self.trace
        return self.traced


@contextmanager
def asked(
    core: ProcessImage, options: Options, store: LayoutStore, wanted: Iterable[str] = ()
) -> Iterator[TracedProcess]:
    """Ask everything of a process, and what a user wants beside; its files close with the block.

    :param core: an open core or running process; it is closed, too
    :raises VringcoreError: as :func:`vringcore.open_core` does, or if something of ``wanted``
        cannot be had
    """
    watch(core)
    files = ProgramFiles(core, options)
    try:
        process = open_traced(core, files, store, options)
    except BaseException:
        files.close()
        raise
    try:
        ask_everything(process)
        include(process, wanted)
        yield process
    finally:
        process.close()


def watch(core: ProcessImage) -> Trace:
    """Begin to record what is read of a core's memory, from the first look at its modules on."""
    trace = core.memory.trace = Trace()
    for module in core.modules:
        module.build_id  # noqa: B018 - read from its first page, then remembered
    return trace


def open_traced(
    core: ProcessImage, files: ProgramFiles, store: LayoutStore, options: Options
) -> TracedProcess:
    """Return a process over an open core that is watched.

    What is the same in every core of a build, and takes a search to find, is learned first, so that
    the search is not what a small core must hold.

    :raises VringcoreError: as :func:`vringcore.open_core` does
    """
    trace = core.memory.trace
    assert trace is not None
    trace.muted = True
    first = Process(core, files, store, options)
    first.qemu_info  # noqa: B018
    trace.muted = False
    if unnamed_files(core):
        # Nor has it their headers, which tell a program and its build: the files at hand have.
        for module in core.modules:
            trace.add(module.start, START)
    return TracedProcess(core, files, store, options, trace)


def ask_everything(process: TracedProcess) -> None:
    """Ask every question there is, and record what it takes."""
    process.core_info  # noqa: B018
    process.qemu_info  # noqa: B018
    machine.guest_ram_state(process.views)
    survey = Survey(process)
    around = survey.process_parts(PROCESS_PARTS, [])
    attempt(lambda: survey.process_parts(LOCALS, []))
    devices = survey.models(DEVICE_PARTS, [])
    _ask_why(process, devices, around)
    for device in devices:
        queues: Any = device.queues
        for queue in queues if isinstance(queues, tuple) else ():
            attempt(lambda d=device, q=queue: _ask_ring(survey, d, q.index))  # type: ignore[misc]
            for each in queue.in_flight or ():
                attempt(lambda r=each.request: _ask_element(process, r))  # type: ignore[misc]
        attempt(lambda d=device: _ask_object(process, d.address))  # type: ignore[misc]
        attempt(lambda d=device: _ask_proxy(process, d.address))  # type: ignore[misc]
    attempt(lambda: _ask_machine(process))
    attempt(lambda: _ask_io_threads(process))
    attempt(lambda: _ask_memory_map(process))
    _ask_block_layer(process)
    stacks = process.stacks
    for start, end in thread_stacks(process):
        stacks.add(start, end - start)
    for address in list(process.traced.coroutines):
        found = attempt(lambda a=address: coroutine_stack(process, a))  # type: ignore[misc]
        if isinstance(found, tuple):
            stacks.add(found[0], found[1] - found[0])
            attempt(lambda a=address: _ask_frames(process, a))  # type: ignore[misc]
    attempt(lambda: read_link_map(process))
    process.recorded.complete()


def _ask_why(process: TracedProcess, devices: tuple[Device, ...], around: dict[str, Any]) -> None:
    """Look up what the evidence of a verdict names: types that nothing else asks for."""
    report = Report(
        tool=Tool("vringcore", VERSION),
        core=process.core_info,
        qemu=process.qemu_info,
        devices=devices,
        **around,
    )
    places = Locator(process.views, process.core.memory.file_offset_of)
    for finding in diagnose(report).findings:
        places.finding(finding)


def _ask_frames(process: TracedProcess, coroutine: int) -> None:
    """Unwind a sleeping coroutine, and name its functions."""
    for _ in frames_of(process, process.backtraces.of_coroutine(coroutine)):
        pass


def _ask_ring(survey: Survey, device: Device, index: int) -> None:
    """Read a ring, and the header of each request in it: as far as it is one, and no data."""
    chains = survey.ring(device.index, index, [])[-1]
    raw = survey.devices.raw[device.index]
    memory = survey.memory_of(raw)
    queue = next(each for each in raw.queues if each.index == index)
    for chain in chains:
        readable = [
            (int(each.address), each.length)
            for each in chain.descriptors
            if not each.flags & (DESC_F_WRITE | DESC_F_INDIRECT)
        ]
        with suppress(VringcoreError):
            read_header_of(raw, queue, readable, chain.writable_bytes, memory)


def _ask_element(process: TracedProcess, request: BlockRequest | DeviceRequest | None) -> None:
    """Read a request's lists of buffers, of which the analysis needs but a part."""
    if request is None:
        return
    views = process.views
    if isinstance(request, DeviceRequest):
        address = int(request.element)
    else:
        address = int(views.at(VirtIOBlockReq, int(request.address)).elem)
    element = views.at(VirtQueueElement, address)
    word = views.pointer_size
    for place, count, size in (
        (element.in_addr, element.in_num, 8),
        (element.out_addr, element.out_num, 8),
        (element.in_sg, element.in_num, 2 * word),
        (element.out_sg, element.out_num, 2 * word),
    ):
        if count <= MAX_SEGMENTS:
            process.trace.add(place, count * size)


def _ask_object(process: TracedProcess, address: int) -> None:
    """Record a QOM object whole, as large as its own type makes it."""
    views = process.views
    type_ = views.at(ObjectClass, views.at(Object, address).class_).type_
    size = views.at(TypeImpl, type_).instance_size
    if size <= MAX_WHOLE:
        process.trace.add(address, size)


def _ask_machine(process: TracedProcess) -> None:
    views = process.views
    _ask_object(process, views.pointer(views.address_of("current_machine")))


def _ask_io_threads(process: TracedProcess) -> None:
    for thread in process.objects.instances("iothread", "/objects"):
        _ask_object(process, thread)


def _ask_memory_map(process: TracedProcess) -> None:
    """Read the guest's memory map with every region of it, of which rings need but a few."""
    guest = GuestMap(process)
    for row in guest.rows:
        process.views.at(MemoryRegion, row.region)
    guest.regions()
    guest_blocks(process, [])


def _ask_proxy(process: TracedProcess, address: int) -> None:
    """Record the device whose bus a virtio device is on: virtio-blk-pci, virtio-mmio."""
    views = process.views
    proxy = proxy_of(views, process.objects, HostAddress(address))
    if proxy is None:
        return
    _ask_object(process, proxy.address)
    if proxy.transport == "pci":
        process.trace.add(views.at(PCIInterrupts, proxy.address).config, PCI_CONFIG_SIZE)


def _ask_block_layer(process: TracedProcess) -> None:
    """Go through all back-ends and nodes, those without a virtio device too."""
    layer, views = process.block, process.views
    attempt(layer.backends)
    contexts = set()
    for node in attempt(layer.nodes) or []:
        attempt(lambda n=node: list(layer.children(n)))  # type: ignore[misc]
        contexts.add(attempt(lambda n=node: n.view.aio_context))  # type: ignore[misc]
    for context in contexts:
        attempt(lambda c=context: views.at(AioContext, c))  # type: ignore[misc]


def include(process: TracedProcess, wanted: Iterable[str]) -> None:
    """Record what a user names beside: ``START-END``, ``START+SIZE`` or a C expression.

    Of an expression its object is kept, and, where it is a pointer, what it points to.

    :raises VringcoreError: if one of them cannot be had
    """
    for text in wanted:
        if (place := _range_of(text)) is not None:
            start, size = place
            process.views.space.read(HostAddress(start), 1)
            process.included.add(start, size)
        else:
            _include_expression(process, text)
    process.recorded.complete()


def _range_of(text: str) -> tuple[int, int] | None:
    for sign, size_of in _RANGE_SIGNS.items():
        start, found, end = text.partition(sign)
        if found:
            try:
                first, second = int(start, 0), int(end, 0)
            except ValueError:
                continue
            size = size_of(first, second)
            if size <= 0:
                raise UsageError(
                    "a range to include has no bytes",
                    seen=text,
                    expected="START-END with END behind START, or START+SIZE",
                )
            return first, size
    return None


_RANGE_SIGNS: dict[str, Callable[[int, int], int]] = {
    "+": lambda _start, size: size,
    "-": lambda start, end: end - start,
}


def _include_expression(process: TracedProcess, text: str) -> None:
    from vringcore.expr.answer import answer
    from vringcore.expr.evaluate import evaluate
    from vringcore.layout.types import Pointer

    views = process.views
    value = evaluate(views, text)
    if value.address is not None:
        process.included.add(int(value.address), value.size)
    type_ = views.layouts.resolve(value.type)
    if isinstance(type_, Pointer):
        target = evaluate(views, f"*({text})")
        if target.address is not None:
            process.included.add(int(target.address), target.size)
    answer(views, text, symbols=process.symbols)
