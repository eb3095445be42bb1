"""A core, the files of its program and what is known of their types, composed into one process."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import UNSET

from vringcore.elfcore.core import open_elf_core
from vringcore.errors import NotQemuError
from vringcore.layout.store import LayoutStore
from vringcore.model.report import CoreInfo, Limitation, QemuInfo
from vringcore.model.report import Module as ModuleInfo
from vringcore.model.values import Absent, Address
from vringcore.qemu import commandline, machine
from vringcore.qemu.absence import CORRUPT
from vringcore.qemu.files import ProgramFiles
from vringcore.qemu.qom import ObjectModel
from vringcore.qemu.ramblocks import RamGaps
from vringcore.qemu.structs import VARIABLES, VirtIODevice
from vringcore.qemu.symbols import ModuleSymbols
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from vringcore.elfcore.image import ProcessImage
    from vringcore.elfcore.slimnote import SlimNote
    from vringcore.layout.provider import Layouts
    from vringcore.memory.files import FileSource
    from vringcore.memory.overlay import OverlaySpace
    from vringcore.memory.space import AddressSpace, HostSpace
    from vringcore.model.requests import InFlight
    from vringcore.options import Options
    from vringcore.qemu.backtraces import Backtraces
    from vringcore.qemu.block import BlockLayer
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.flat_space import GuestSpace
    from vringcore.qemu.libraries import ProcessSymbols
    from vringcore.qemu.syscalls import Caller
    from vringcore.view.views import Symbols

QEMU_VARIABLES = ("main_system_bus", "vm_change_state_head", "current_machine")
"""What only a program with virtio devices has; qemu-img and qemu-storage-daemon do not."""


PACK_FACT = "layout-pack"


class Process:
    """A QEMU process as its core shows it. Close it; what was read stays valid after that.

    :ivar views: QEMU's structures
    :ivar limits: what could not be had of the core as a whole
    :ivar near: whose types are used, if another build's; they have passed ``near_checks`` checks
    """

    def __init__(
        self, core: ProcessImage, files: ProgramFiles, store: LayoutStore, options: Options
    ) -> None:
        self.core = core
        self.files = files
        self.store = store
        self._deep = options.deep
        self.near = ""
        self.near_checks = 0
        self._debug_dirs, self._sysroot = options.debug_dirs, options.sysroot
        self.limits = [Limitation("a part of the core is damaged", str(p)) for p in core.problems]
        if core.truncated:
            self.limits.append(
                Limitation(
                    "the core is truncated",
                    "the file ends before its headers say",
                    "raise the limit on core size, or check that the copy is complete",
                )
            )
        if core.slim is not None and core.slim.moved:
            self.limits.append(_movement(core.slim))
        layouts = files.layouts(store)
        layouts.hint(VARIABLES)
        core.shared = []
        space = core.with_files(files.mapped, files.executable)
        self.views = self.make_views(space, layouts, files.bias, ModuleSymbols())
        self.views.thread_block = lambda: files.thread_block
        space.explain = RamGaps(self.views)
        self._check_program()
        self._add_symbols()
        self.ram_files: dict[str, FileSource] = {}
        self._lay_ram_files(space, options)
        self.objects = ObjectModel(self.views)
        if self.views.layouts.find_fact(PACK_FACT) is not None or files.pack is not None:
            self._admit_pack()

    def make_views(self, space: HostSpace, layouts: Layouts, bias: int, symbols: Symbols) -> Views:
        """Return the views through which all structures are read; a subclass may watch them."""
        return Views(space, layouts, bias, symbols)

    def _check_program(self) -> None:
        layouts = self.views.layouts
        known = layouts.find_definition(VirtIODevice.c_type, VirtIODevice.unit) is not None
        if not known:
            missing = self.files.missing_debug_information()
            if missing is not None:
                from vringcore.qemu.program import not_qemu

                raise not_qemu(self.core, self.files.executable) or missing
        if any(layouts.find_variable(name) for name in QEMU_VARIABLES):
            return
        if self.files.pack is not None:
            from vringcore.qemu.packed_layouts import nothing_exported

            raise nothing_exported(self.files)
        if not known and not layouts.is_absent(VirtIODevice.c_type):
            raise layouts.missing(VirtIODevice.c_type)
        program = self.core.executable_path or "the program"
        raise NotQemuError(
            "no virtio devices in this program",
            where=self.core.path,
            seen=f"a core of {program}, which has no {' and no '.join(QEMU_VARIABLES)}",
            expected="a core of qemu-system-*",
        )

    def _admit_pack(self) -> None:
        """Say that the types are a layout pack's; hold another build's against the core first."""
        from vringcore.qemu import packed_layouts

        layouts = self.views.layouts
        if self.core.slim is None:
            _ = layouts.providers  # A run that asks for less than the last one would not need it.
        if self.files.near:
            from vringcore.qemu.near import check_layouts

            self.near_checks = check_layouts(self)
        why = packed_layouts.described(self.files, self.views, self.near_checks)
        if why:
            layouts.learn(PACK_FACT, why)
        why = why or (self.core.slim is not None and layouts.find_fact(PACK_FACT)) or ""
        if why:
            self.near = why.partition(";")[0] if packed_layouts.NEAR in why else ""
            self.limits.append(packed_layouts.limitation(why))

    def _lay_ram_files(self, space: OverlaySpace, options: Options) -> None:
        """Fill what the core lacks of guest RAM from the files that back it, and say so."""
        core = self.core
        if core.slim is not None and core.slim.ram_files:
            from vringcore.qemu.ram_files import told

            self.limits += [told(name, path) for name, path in core.slim.ram_files]
        if not options.ram_files:
            if core.slim is not None or core.kind == "live":
                return
            if not core.names_unread_files:
                return
        from vringcore.qemu.ram_files import lay_under

        self.ram_files, limits = lay_under(core, self.views, space, options)
        self.limits += limits

    def _add_symbols(self) -> None:
        symbols = self.views.symbols
        assert isinstance(symbols, ModuleSymbols)
        start, end = self.files.extent
        symbols.add(start, end, self.files.bias, self.views.layouts)

    @cached_property
    def block(self) -> BlockLayer:
        """The block layer: back-ends, nodes, and what they are at."""
        from vringcore.qemu.block import BlockLayer

        layer = BlockLayer(self.views)
        layer.callers = lambda: self._callers
        layer.taken_ns = None if self.core.slim is None else self.core.slim.clock_ns
        return layer

    @cached_property
    def _callers(self) -> list[Caller]:
        """The threads that are in system calls."""
        from vringcore.qemu.syscalls import callers

        return list(callers(self.core))

    @cached_property
    def symbols(self) -> ProcessSymbols:
        """Names for addresses in the program and in its shared libraries."""
        from vringcore.qemu.libraries import ProcessSymbols

        return ProcessSymbols(self, debug_dirs=self._debug_dirs, sysroot=self._sysroot)

    @cached_property
    def backtraces(self) -> Backtraces:
        """The frames of stacks; libraries are opened as stacks lead into them."""
        from vringcore.qemu.backtraces import Backtraces

        return Backtraces(self)

    @cached_property
    def guest_memory(self) -> GuestSpace:
        """The guest's physical memory, through QEMU's flat view of it.

        :raises VringcoreError: if the flat view cannot be read
        """
        from vringcore.qemu.memory import guest_memory

        return guest_memory(self.views)

    def requests_of(
        self, device: RawDevice, memory: Callable[[], AddressSpace[Any]]
    ) -> tuple[dict[int, list[InFlight]], list[Limitation]]:
        """Return a device's requests in flight by queue index, from QEMU's own elements.

        What of them is in use and could not be identified is counted.

        :param memory: gives the guest's memory as the device sees it
        """
        if not self.objects.is_a(device.address, "virtio-blk-device"):
            from vringcore.qemu.requests_devices import device_requests

            return device_requests(self, device, memory, deep=self._deep)
        from vringcore.qemu.requests import virtio_blk_requests

        return virtio_blk_requests(self.block, int(device.address), device.queues, deep=self._deep)

    @cached_property
    def core_info(self) -> CoreInfo:
        """The core file itself, as reports show it."""
        core = self.core
        return CoreInfo(
            path=core.path,
            size=core.size,
            kind=core.kind,
            machine=core.machine,
            build_id=self.files.build_id,
            captured_at=self._captured[0],
            complete=not core.truncated if core.slim is None else core.slim.complete,
            guest_ram=(core.slim and core.slim.guest_ram) or machine.guest_ram_state(self.views),
            threads=self._threads,
            modules=tuple(
                ModuleInfo(
                    path=module.path,
                    address=Address(module.start),
                    build_id=module.build_id,
                    file=self.files.path_of(module),
                )
                for module in core.modules
                if module.build_id
            ),
            near_match=self.near or UNSET,
            captured_at_source=self._captured[1],
        )

    @cached_property
    def _captured(self) -> tuple[str | Absent, str]:
        core = self.core
        if core.slim is None and not named_by_convention(core.path):
            return Absent("not-recorded", None, "neither gdb nor the kernel writes the time"), ""
        from vringcore.qemu.captured import captured_at

        return captured_at(core)

    @property
    def _threads(self) -> int | Absent:
        core = self.core
        if not core.problems:
            return len(core.threads)
        # gdb writes the notes last: a cut core has lost them all, and 0 would be a lie.
        return Absent("truncated" if core.truncated else CORRUPT, None, str(core.problems[0]))

    @cached_property
    def qemu_info(self) -> QemuInfo:
        """The QEMU process, as reports show it."""
        views, core = self.views, self.core
        return QemuInfo(
            version=machine.qemu_version(views, core.executable),
            machine_type=machine.machine_type(views, self.objects),
            command_line=commandline.command_line(views, core),
            pid=commandline.pid(core),
            vm_name=commandline.vm_name(views, core),
            vm_uuid=commandline.vm_uuid(views, core),
            run_state=machine.run_state(views),
            migration=machine.migration_status(views),
        )

    def close(self) -> None:
        """Write what was learned about the build to the cache, and close every file."""
        self.store.save()
        if "symbols" in self.__dict__:
            self.symbols.close()
        if "backtraces" in self.__dict__:
            self.backtraces.close()
        for source in self.ram_files.values():
            source.close()
        self.files.close()
        self.core.close()


def named_by_convention(path: str) -> bool:
    """Tell whether a core's name may say when it was taken: most do not, and are not looked at."""
    name = path[path.rfind("/") + 1 :]
    return name.count(".") + name.count("-") > 1 or name.startswith("coredump")


MAX_NAMED = 4
"""Kinds of structures that a message names."""


def _movement(slim: SlimNote) -> Limitation:
    """Say what had changed in a live process between its first reading and the last look."""
    counts: dict[str, int] = {}
    for moved in slim.moved:
        counts[moved.what] = counts.get(moved.what, 0) + moved.size
    order = sorted(counts, key=lambda what: (-counts[what], what))
    named = ", ".join(f"{counts[what]} bytes of {what}" for what in order[:MAX_NAMED])
    more = f" and of {len(order) - MAX_NAMED} more" if len(order) > MAX_NAMED else ""
    return Limitation(
        "the process ran on while it was captured",
        f"changed meanwhile: {named}{more}",
        "numbers of a busy queue need not fit together; capture with --stop, or twice and compare",
    )


def open_process(path: str, options: Options, store: LayoutStore | None) -> Process:
    """Open a core and everything it needs; the errors are those of :func:`vringcore.open_core`."""
    core = open_elf_core(
        path,
        member=options.member,
        tmpdir=options.tmpdir,
        max_unpacked=options.max_unpacked,
        progress=options.progress,
    )
    store = LayoutStore.default() if store is None else store
    files = None
    try:
        files = ProgramFiles(core, options)
        if options.near and options.layout is None and core.slim is None:
            from vringcore.qemu.near import nearest

            files.pack = nearest(files, lambda: Process(core, files, store, options))
        return Process(core, files, store, options)
    except BaseException:
        if files is not None:
            files.close()
        core.close()
        raise
