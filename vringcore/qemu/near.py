"""Whether the types of another build fit a core: every structure is held against what it says.

Each check compares two statements of the core that agree only if both were read at the right place:
a queue's own index with its place, a list's links with each other, the size that QOM has of a type
with the pack's. One that fails means that the types are not this build's. One that nothing can be
read for says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.errors import LayoutError, MemoryFault, VringcoreError
from vringcore.layout.pack import pack_from_json
from vringcore.layout.pack_store import find_pack, read_file, shipped
from vringcore.layout.types import Record
from vringcore.qemu import near_heap, near_structs
from vringcore.qemu.block_structs import BdrvChild, BlockBackend, BlockDriverState
from vringcore.qemu.devices import Devices, kind_of
from vringcore.qemu.ramblocks import MAX_RAM_BLOCKS
from vringcore.qemu.structs import Object, RAMBlock, VirtQueue
from vringcore.qemu.thread_structs import CPUS, CPUState
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.layout.pack import Pack
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.files import ProgramFiles
    from vringcore.qemu.process import Process
    from vringcore.view.declare import View

MIN_CHECKS = 100
"""Of objects alone; a core of a VM with one disk has some seven hundred. Fewer prove nothing."""

MAX_OBJECTS = 5_000
MAX_ELEMENTS = 10_000
MAX_THREAD_ID = 1 << 22


def check_layouts(process: Process) -> int:
    """Return how many checks the core passed.

    :raises LayoutError: at the first that fails, or if too few could be made
    """
    checks = _Checks(process)
    for part in (
        checks.objects,
        checks.ram,
        checks.devices,
        checks.block,
        checks.cpus,
    ):
        try:
            part()
        except LayoutError:
            raise
        except MemoryFault:
            pass  # What the core lacks cannot tell; what it led to was checked before.
        except VringcoreError as error:
            raise checks.refusal(
                part.__name__, str(error), "structures that can be followed"
            ) from error
        if part == checks.objects and checks.passed < MIN_CHECKS:
            break
    else:
        return checks.passed
    raise LayoutError(
        "too little of the core could be held against the layouts",
        where=process.core.path,
        seen=f"{checks.passed} checks",
        expected=f"at least {MIN_CHECKS}",
        hint="the debug information of this very build is needed",
    )


def nearest(files: ProgramFiles, opened: Callable[[], object]) -> Pack | None:
    """Return the shipped pack whose types fit a core, None if the core needs none.

    :param opened: opens the process with the pack that ``files`` has, and checks it
    :raises LayoutError: if none fits; the message has each one's first fault
    """
    if files.missing_debug_information() is None or find_pack(files.build_id, []) is not None:
        return None
    refusals = []
    files.near = True
    for path in shipped():
        try:
            files.pack = pack_from_json(read_file(path), where=path)
            opened()
        except VringcoreError as error:
            refusals.append(f"{path.rsplit('/', 1)[-1]}: {error}")
        else:
            return files.pack
    raise LayoutError(
        "no layout pack fits this build",
        where=f"build-id {files.build_id or 'unknown'}",
        seen="; ".join(refusals) or "no packs",
        hint="the debug information of this very build is needed (--debug-file, --debug-dir)",
    )


class _Checks:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._views = process.views
        self._objects = process.objects
        self._heap = near_heap.Heap(process.views)
        self.passed = 0

    def refusal(self, where: str, seen: str, expected: str) -> LayoutError:
        pack = self._process.files.pack
        return LayoutError(
            "the types of another build do not fit this core",
            where=where,
            seen=seen,
            expected=expected,
            hint=f"those of {pack.name or pack.build_id if pack else 'it'} are not used;"
            " the debug information of this very build is needed",
        )

    def _same(self, where: str, seen: object, expected: object) -> None:
        if seen != expected:
            raise self.refusal(where, _text(seen), _text(expected))
        self.passed += 1

    def _true(self, where: str, seen: object, holds: bool, expected: str) -> None:
        if not holds:
            raise self.refusal(where, _text(seen), expected)
        self.passed += 1

    # Objects

    def objects(self) -> None:
        """Check the object tree: parents, types, and the sizes that QOM has of them."""
        objects, views = self._objects, self._views
        machine = views.pointer(views.address_of("current_machine"))
        self._true(
            "current_machine",
            machine,
            bool(machine) and objects.is_a(machine, "machine"),
            "an object of type machine",
        )
        classes: dict[int, None] = {}
        for number, (path, address) in enumerate(objects.walk()):
            if number >= MAX_OBJECTS:
                break
            ancestry = objects.ancestry(address)
            self._same(f"the type of {path}", ancestry[-1:], ("object",))
            classes[views.at(Object, address).class_] = None
            for _, child in collect(objects.children(address))[0]:
                self._same(
                    f"struct Object.parent below {path}", views.at(Object, child).parent, address
                )
        for class_ in classes:
            self._instance_sizes(class_)

    def _instance_sizes(self, class_: int) -> None:
        for name, size in near_structs.instance_sizes(self._views, class_):
            key = near_structs.INSTANCES.get(name)
            ours = None if key is None else self._size_of(key)
            if ours is not None and size:
                self._same(f"sizeof({key}) as QOM has it of {name}", ours, size)

    def _size_of(self, key: str) -> int | None:
        definition = self._views.layouts.find_definition(key)
        return definition.size if isinstance(definition, Record) else None

    # Memory

    def ram(self) -> None:
        """Check RAM blocks, and the address space of memory."""
        views = self._views
        head = near_structs.ram_list_head(views)
        names = set()
        for block in self._linked(head, RAMBlock, "next", MAX_RAM_BLOCKS):
            name = block.idstr
            self._true(
                "struct RAMBlock.idstr",
                name,
                bool(name) and name.isprintable() and name not in names,
                "a name of its own",
            )
            names.add(name)
            where = f"struct RAMBlock {name}"
            self._true(
                where, block.used_length, 0 < block.used_length <= block.max_length, "a size"
            )
            page = block.page_size
            self._true(where, page, page >= 4096 and not page & (page - 1), "a page size")
            self._heap_object(block)
        space = views.address_of("address_space_memory")
        self._same(
            "struct AddressSpace.name", near_structs.name_of_address_space(views, space), "memory"
        )

    # Devices

    def devices(self) -> None:
        """Check the virtio devices and their queues."""
        devices = Devices(self._views, self._objects, lambda: self._process.block)
        for raw in devices.raw:
            self._device(raw)

    def _device(self, raw: RawDevice) -> None:
        view, views = raw.view, self._views
        ancestry = self._objects.ancestry(view.address_)
        kind = kind_of(ancestry)
        self._same("struct VirtIODevice.name", views.string_or_none(view.name), kind)
        entry = near_structs.handler_entry(views, view.vmstate)
        self._same("struct VMChangeStateEntry.opaque", entry.opaque, view.address_)
        self._heap_object(entry)
        size = views.binding(VirtQueue).type.size
        self._heap_size("the array of struct VirtQueue", view.vq, 1024 * size)
        for index in range(64):
            queue = views.at(VirtQueue, view.vq + index * size)
            if queue.num or queue.num_default:
                where = f"struct VirtQueue {index} of {kind}"
                self._same(f"{where}: vdev", queue.vdev, view.address_)
                self._same(f"{where}: queue_index", queue.queue_index, index)
                sizes = (queue.num, queue.num_default)
                self._true(f"{where}: vring.num", sizes, max(sizes) <= 1024, "at most 1024")
        self._rings(raw, kind)

    def _rings(self, raw: RawDevice, kind: str) -> None:
        """Check the rings' pointers in QEMU's memory against its own map of the guest's."""
        views = self._views
        if raw.view.dma_as != views.address_of("address_space_memory"):
            return
        memory = self._process.guest_memory
        for queue in raw.queues:
            parts = (queue.place.desc, queue.place.avail, queue.place.used)
            guest = (queue.view.desc, queue.view.avail, queue.view.used)
            for name, part, address in zip(("desc", "avail", "used"), parts, guest, strict=True):
                if isinstance(part, int) and address:
                    where = f"struct VRingMemoryRegionCaches {name} of {kind} {queue.index}"
                    host = memory.host_address(near_structs.guest_address(address))
                    self._same(where, int(part), int(host))

    # Block layer

    def block(self) -> None:
        """Check back-ends and nodes of the block layer: lists, names, edges."""
        views = self._views
        head = views.find_address_of("block_backends", "block/block-backend.c")
        nodes = views.find_address_of("all_bdrv_states", "block.c")
        known = set()
        edges: list[BdrvChild] = []
        for node in self._linked(nodes, BlockDriverState, "bs_list", MAX_ELEMENTS) if nodes else ():
            known.add(int(node.address_))
            name = node.node_name
            self._true("struct BlockDriverState.node_name", name, name.isprintable(), "a name")
            self._heap_object(node)
            edges += self._linked(node.children, BdrvChild, "next", MAX_ELEMENTS)
        for edge in edges:
            self._true("struct BdrvChild.bs", edge.bs, int(edge.bs) in known, "a node")
            name = views.string(edge.name)
            self._true("struct BdrvChild.name", name, name.isprintable(), "a name")
        for blk in self._linked(head, BlockBackend, "link", MAX_ELEMENTS) if head else ():
            self._heap_object(blk)
            if blk.dev:
                self._true(
                    "struct BlockBackend.dev",
                    blk.dev,
                    self._objects.is_object(blk.dev),
                    "an object",
                )
            if blk.root:
                child = views.at(BdrvChild, blk.root)
                self._heap_object(child)
                name = views.string(child.name)
                self._same("struct BdrvChild.name below a back-end", name, "root")
                if known:
                    self._true("struct BdrvChild.bs", child.bs, int(child.bs) in known, "a node")

    # vCPUs

    def cpus(self) -> None:
        """Check the vCPUs' list, numbers and threads."""
        views = self._views
        places = (views.find_address_of(name, unit) for name, unit in CPUS.items())
        head = next((place for place in places if place is not None), None)
        found = list(self._linked(head, CPUState, "node", MAX_ELEMENTS)) if head else []
        for number, cpu in enumerate(found):
            self._same("struct CPUState.cpu_index", cpu.cpu_index, number)
            thread = cpu.thread_id
            self._true("struct CPUState.thread_id", thread, 0 < thread <= MAX_THREAD_ID, "a thread")

    # Inside

    def _linked(self, head: int, view: type[Any], link: str, limit: int) -> Iterator[Any]:
        """Yield a list's elements; each must point back to the one before it."""
        views = self._views
        at = views.offset(view.c_type, link, view.unit)
        previous = head
        for element in views.elements(head, view, link, limit=limit):
            back = views.pointer(element.address_ + at + views.pointer_size)
            self._same(f"the link {view.c_type}.{link} back", back, previous)
            previous = element.address_ + at
            yield element

    def _heap_object(self, view: View) -> None:
        size = self._size_of(view.c_type)
        if size is not None:
            self._heap_size(view.c_type, view.address_, size)

    def _heap_size(self, what: str, address: int, size: int) -> None:
        """Check that the memory that malloc gave for an object is as large as the object."""
        fits = self._heap.fits(address, size)
        if fits is not None:
            self._true(f"sizeof({what})", size, fits, "the size that was allocated for it")


def _text(value: object) -> str:
    if isinstance(value, int) and value >= 1 << 16:
        return f"{value:#x}"
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) or "nothing"
    return str(value)
