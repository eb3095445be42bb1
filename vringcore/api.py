"""The library's front door: :func:`open_core` and :class:`Core`.

Nothing here is global: two cores may be open at once, in as many threads as you like, and share
what is known about a build through a :class:`~vringcore.layout.store.LayoutStore` passed to
both.
"""

from __future__ import annotations

import os
from _thread import RLock  # `threading` costs more to import than a core to open
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from vringcore.errors import AmbiguousDeviceError, NoSuchDeviceError, UsageError
from vringcore.model.report import Report, RingDocument, Tool
from vringcore.options import Options
from vringcore.qemu.process import open_process
from vringcore.qemu.survey import DEVICE_PARTS, PARTS_ON_REQUEST, PROCESS_PARTS, Survey
from vringcore.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from vringcore.expr.pyvalue import Value
    from vringcore.layout.store import LayoutStore
    from vringcore.model.devices import Device
    from vringcore.model.driver import DriverDocument
    from vringcore.model.report import CoreInfo, Limitation, QemuInfo
    from vringcore.model.values import Absent
    from vringcore.qemu.process import Process

    Path = str | os.PathLike[str]

ALL_PARTS = DEVICE_PARTS | PROCESS_PARTS
"""What a report can hold."""

WHY_PARTS = ALL_PARTS - {"device-fields"}
"""What a verdict is made from."""

MAX_DIGITS = 9
"""Of a device's index; Python refuses to read numbers of some thousand digits."""


class Core:
    """An open core of a QEMU process. Use it in a ``with`` statement, or close it.

    What it returns are plain frozen objects that stay valid after it is closed; whoever asks then
    gets a UsageError.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lock = RLock()
        self._survey: Survey | None = None
        self._devices: tuple[Device, ...] | None = None
        self._closed = False

    def virtio_devices(self) -> tuple[Device, ...]:
        """Return every virtio device with its queues, rings' indices and requests in flight.

        :raises VringcoreError: only if nothing at all can be said; what is missing within a device
            is Absent and says why
        """
        with self._lock:
            if self._devices is None:
                self._devices = self._asked().models(DEVICE_PARTS, [])
            return self._devices

    def find_device(self, name: str) -> Device:
        """Return the device that ``name`` means: id, QOM path, PCI address, serial or index.

        :raises NoSuchDeviceError: if none does; the message lists the devices
        :raises AmbiguousDeviceError: if more than one does; the message lists them
        """
        with self._lock:
            return choose_device(self._asked().models(frozenset({"devices"}), []), name)

    def report(
        self,
        parts: Iterable[str] = ALL_PARTS,
        *,
        device: str | None = None,
        thread: int | None = None,
    ) -> Report:
        """Return the document that the verbs print as JSON.

        :param parts: of ``devices`` (all that is known of each: serial, I/O threads, back-ends),
            ``device-fields`` (each VirtIODevice whole), ``queues``, ``queue-fields`` (each
            VirtQueue whole), ``requests``, ``threads``, ``coroutines``, ``block`` (the block
            layer), ``event-loops``, ``locks``, ``machine`` (vCPUs, migration, interrupts). Each
            brings what it lies in: queues come with what every device has in common. With none,
            core and process alone are described. ``locals``, with ``threads``, adds the local
            variables of their functions; it is shown only if it is asked for.
        :param device: only this device, named as in :meth:`find_device`
        :param thread: only this thread, by its number (``lwp``)
        :raises UsageError: if there is no such part or no such thread
        :raises NoSuchDeviceError, AmbiguousDeviceError: if ``device`` does not name one device
        """
        with self._lock:
            wanted = frozenset(parts)
            known = ALL_PARTS | PARTS_ON_REQUEST
            if not wanted <= known:
                raise UsageError(
                    "a report has no such part",
                    seen=", ".join(sorted(wanted - known)),
                    expected="any of " + ", ".join(sorted(known)),
                )
            survey = self._asked()
            limits: list[Limitation] = []
            only = None if device is None else self.find_device(device).index
            of_devices = wanted & DEVICE_PARTS
            devices = survey.models(of_devices, limits, only=only) if of_devices else UNSET
            around = survey.process_parts(wanted - DEVICE_PARTS, limits, thread=thread)
            return Report(
                tool=TOOL,
                core=self.info,
                qemu=self.qemu,
                devices=devices,
                limits=self._limits(limits),
                **around,
            )

    def with_payload(self, report: Report, size: int) -> Report:
        """Return a report whose requests in flight have the beginning of their data.

        That is the guest's own data: nothing else in a report shows it.

        :param report: one of this core's, with ``requests``
        :param size: how many bytes of each request
        """
        from msgspec.structs import replace

        from vringcore.qemu.requests_payload import with_payload

        with self._lock:
            self._asked()
            devices = with_payload(self.process.views, report.devices or (), size)
            return replace(report, devices=devices)

    def why(self) -> Report:
        """Return everything with a verdict: what is stuck, and why.

        ``verdict`` is the one answer, ``findings`` what it rests on, each with evidence that can be
        checked by hand, ``wait_for`` who waits for whom, and ``signature`` the same for all cores
        with the same cause. What the core does not hold silences rules, and the verdict says so.
        """
        from msgspec.structs import replace

        from vringcore.diagnose.engine import diagnose
        from vringcore.expr.locate import Locator

        with self._lock:
            report = self.report(WHY_PARTS)
            found = diagnose(report)
            process = self.process
            places = Locator(process.views, process.core.memory.file_offset_of)
            return replace(
                report,
                verdict=found.verdict,
                signature=found.signature,
                findings=tuple(map(places.finding, found.findings)),
                wait_for=found.wait_for,
                limits=(*report.limits, *found.limits),
            )

    def report_html(self) -> str:
        """Return :meth:`why` and every ring as one HTML page, without scripts or other files.

        It holds none of the guest's data. The same core gives the same page.

        :raises UsageError: if jinja2 is not installed (the extra ``html``)
        """
        from vringcore.report.html.page import render_page

        with self._lock:
            report = self.why()
            rings = [
                self._ring(device, queue.index)
                for device in report.devices or ()
                for queue in device.queues or ()
            ]
            return render_page(report, rings)

    def ring(self, device: str, queue: int) -> RingDocument:
        """Return one queue's ring: tables, entries, chains published and in flight.

        :raises NoSuchDeviceError, AmbiguousDeviceError, NoSuchQueueError: if it is not there
        """
        with self._lock:
            return self._ring(self.find_device(device), queue)

    def driver(
        self,
        guest_types: Iterable[str],
        *,
        device: str | None = None,
        queue: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> DriverDocument:
        """Return what the guest's own driver has seen of its queues, beside QEMU's view.

        :param guest_types: files with BTF: the guest's vmlinux and modules, or /sys/kernel/btf's
        :param device: only this device, named as in :meth:`find_device`
        :param queue: only the queues of this index
        :param progress: called with bytes of guest memory searched, and their number
        :raises FileError, LayoutError: if the types cannot be read, or lack those of virtio
        :raises NoSuchDeviceError, AmbiguousDeviceError: if ``device`` does not name one device
        :raises VringcoreError: if the guest's memory map cannot be read
        """
        from vringcore.model.driver import DriverDocument
        from vringcore.model.values import Absent, Address
        from vringcore.qemu.driver import GuestDriver
        from vringcore.qemu.driver import guest_types as types_of

        with self._lock:
            only = None if device is None else self.find_device(device).index
            found = GuestDriver(self.process, self._asked(), types_of(list(guest_types)), progress)
            queues = tuple(found.queues(only, queue))
            start = found.direct_map
            return DriverDocument(
                tool=TOOL,
                direct_map=Absent("not-found") if start is None else Address(start),
                queues=queues,
                limits=self._limits(found.limits),
            )

    @property
    def process(self) -> Process:
        """The process as QEMU's structures show it: for questions that no report answers.

        :raises UsageError: if the core is closed
        """
        if self._closed:
            raise UsageError(
                "the core is closed",
                where=self._process.core.path,
                hint="ask before the end of the `with` statement; what was answered stays valid",
            )
        return self._process

    def print_expression(self, expression: str, *, format: str = "") -> str:  # noqa: A002
        """Return what gdb 13 prints for a C expression, without ``$1 = ``.

        :param expression: ``*current_machine``, ``/x current_machine->ram_size``
        :param format: one of gdb's letters, such as ``x``
        :raises ExpressionError: if it cannot be understood; the message tells where
        :raises LayoutMissingError: if the debug information that it needs is not at hand
        :raises MemoryFault: if memory that it needs is not in the core
        """
        from vringcore.expr.answer import answer

        with self._lock:
            process = self.process
            return answer(process.views, expression, format=format, symbols=process.symbols).text

    def eval(self, expression: str) -> Value:
        """Return the value of a C expression; it reads memory only as far as it is asked.

        :raises ExpressionError, LayoutMissingError, MemoryFault: as :meth:`print_expression`
        """
        from vringcore.expr.evaluate import evaluate
        from vringcore.expr.pyvalue import Value

        with self._lock:
            process = self.process
            return Value(evaluate(process.views, expression), process.symbols)

    @property
    def info(self) -> CoreInfo:
        """The core file itself."""
        with self._lock:
            return self.process.core_info

    @property
    def qemu(self) -> QemuInfo:
        """The QEMU process."""
        with self._lock:
            return self.process.qemu_info

    def close(self) -> None:
        """Close every file; an unpacked temporary core is gone with it. May be called again."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ring(self, device: Device, queue: int) -> RingDocument:
        from vringcore.model.rings import PackedRing, SplitRing

        limits: list[Limitation] = []
        model, ring, chains = self._asked().ring(device.index, queue, limits)
        split: SplitRing | Absent | UnsetType = UNSET
        packed: PackedRing | Absent | UnsetType = UNSET
        if isinstance(ring, SplitRing):
            split = ring
        elif isinstance(ring, PackedRing):
            packed = ring
        else:  # if nobody can tell what kind it is, both are absent
            split = UNSET if model.ring == "packed" else ring
            packed = UNSET if model.ring == "split" else ring
        return RingDocument(
            tool=TOOL,
            device_id=device.id,
            qom_path=device.qom_path,
            queue=model,
            split=split,
            packed=packed,
            chains=chains,
            limits=self._limits(limits),
        )

    def _asked(self) -> Survey:
        process = self.process
        if self._survey is None:
            self._survey = Survey(process)
        return self._survey

    def _limits(self, limits: list[Limitation]) -> tuple[Limitation, ...]:
        """Return what hinders every question, then what hindered this one; each once."""
        return tuple(dict.fromkeys([*self._process.limits, *self._asked().devices.limits, *limits]))


TOOL = Tool("vringcore", VERSION)


def open_core(
    path: Path,
    *,
    executable: Path | None = None,
    debug_files: Iterable[Path] = (),
    debug_dirs: Iterable[Path] = (),
    sysroot: Path | None = None,
    layout: Path | None = None,
    ram_files: Iterable[Path] = (),
    near: bool = False,
    member: str | None = None,
    tmpdir: Path | None = None,
    max_unpacked: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    deep: bool = False,
    store: LayoutStore | None = None,
) -> Core:
    """Open a core of a QEMU process. The parameters are those of :class:`~.options.Options`.

    :param store: what is known about builds, shared by all cores opened with the same one; None
        makes one over the user's cache directory
    :raises FileError: if a file cannot be opened
    :raises CoreFormatError: if it is no core, or too damaged to be read
    :raises NotQemuError: if it is a core of a program without virtio devices
    :raises ExecutableMismatchError: if ``executable`` is another build
    :raises DebugInfoMissingError: if nothing describes QEMU's types
    """
    options = Options(
        executable=_named(executable),
        debug_files=tuple(os.fspath(each) for each in debug_files),
        debug_dirs=tuple(os.fspath(each) for each in debug_dirs),
        sysroot=_named(sysroot),
        layout=_named(layout),
        ram_files=tuple(os.fspath(each) for each in ram_files),
        near=near,
        member=member,
        tmpdir=_named(tmpdir),
        max_unpacked=max_unpacked,
        progress=progress,
        deep=deep,
    )
    return Core(open_process(os.fspath(path), options, store))


def _named(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)


def choose_device(devices: tuple[Device, ...], name: str) -> Device:
    """Return the device that ``name`` means; see :meth:`Core.find_device`."""
    for key in ("id", "qom_path", "pci_address", "serial"):
        found = [d for d in devices if getattr(d, key) == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousDeviceError(
                f"more than one device has the {key.replace('_', ' ')} {name}",
                hint="take one of " + ", ".join(_name(d) for d in found),
            )
    if name.isdecimal() and len(name) <= MAX_DIGITS and int(name) < len(devices):
        return devices[int(name)]
    raise NoSuchDeviceError(
        f"no virtio device is called {name}",
        hint="there is " + (", ".join(_name(d) for d in devices) or "none"),
    )


def _name(device: Device) -> str:
    names = (name for name in (device.id, device.qom_path) if isinstance(name, str) and name)
    name = next(names, "?")
    return f"{name} ({device.kind}, index {device.index})"
