"""Finding every virtio device, by ways that do not depend on each other.

- ``qdev-tree``: the bus tree from ``main_system_bus`` (hw/core/sysbus.c), which holds every
  device that sits on a bus
- ``vm-state-handlers``: ``vm_change_state_head`` (system/runstate.c), in which every initialised
  VirtIODevice has registered itself and remembers its entry in ``vmstate``
- ``qom-tree``: the object tree from ``object_get_root()``'s ``root`` (qom/object.c); slower, asked
  when the first two disagree or one of them is not available

A device counts as found when one way leads to it; which ways did is recorded with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import VringcoreError
from vringcore.model.report import Limitation
from vringcore.qemu.structs import BusChild, BusState, DeviceState, VirtIODevice, VMChangeStateEntry
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.addresses import HostAddress
    from vringcore.qemu.qom import ObjectModel
    from vringcore.view.views import Views

VIRTIO_DEVICE = "virtio-device"
MAX_BUS_DEPTH = 64
MAX_DEVICES = 20_000


class Found(msgspec.Struct, frozen=True):
    """A VirtIODevice's address and the ways that led to it."""

    address: int
    ways: tuple[str, ...]


def find_virtio_devices(views: Views, objects: ObjectModel) -> tuple[list[Found], list[Limitation]]:
    """Return every virtio device, in the order of the bus tree, and what went wrong on the way."""
    limits: list[Limitation] = []
    ways: dict[int, list[str]] = {}

    def ask(way: str, search: Callable[[], Iterator[HostAddress]]) -> set[int]:
        found, error = collect(_lazily(search))
        if error is not None:
            limits.append(Limitation(f"the search for devices by {way} ended early", str(error)))
        for address in found:
            names = ways.setdefault(int(address), [])
            if way not in names:
                names.append(way)
        return {int(a) for a in found}

    by_tree = ask("qdev-tree", lambda: _by_bus_tree(views, objects))
    by_handlers = ask("vm-state-handlers", lambda: _by_state_handlers(views, objects))
    if by_tree != by_handlers or not ways:
        ask("qom-tree", lambda: objects.instances(VIRTIO_DEVICE))
    limits += [
        Limitation(
            f"the virtio device at {address:#x} was found by {names[0]} only",
            "the other ways do not know it: it may be half made or half removed",
        )
        for address, names in ways.items()
        if len(names) == 1 and len(by_tree) + len(by_handlers) > 1
    ]
    return [Found(address, tuple(names)) for address, names in ways.items()], limits


def _lazily(search: Callable[[], Iterator[HostAddress]]) -> Iterator[HostAddress]:
    yield from search()


def _by_bus_tree(views: Views, objects: ObjectModel) -> Iterator[HostAddress]:
    root = views.pointer(views.address_of("main_system_bus", "hw/core/sysbus.c"))
    pending = [(int(root), 0)]
    seen: set[int] = set()
    while pending:
        bus_address, depth = pending.pop()
        if not bus_address or bus_address in seen or depth > MAX_BUS_DEPTH:
            continue
        if len(seen) > MAX_DEVICES:
            return
        seen.add(bus_address)
        bus = views.at(BusState, bus_address)
        buses = []
        # New children go to the head of the list, so the reverse is the order of creation.
        for child in reversed(list(views.elements(bus.children, BusChild, "sibling"))):
            if objects.is_a(child.child, VIRTIO_DEVICE):
                yield child.child
            device = views.at(DeviceState, child.child)
            buses += [b.address_ for b in views.elements(device.child_bus, BusState, "sibling")]
        pending += [(int(b), depth + 1) for b in reversed(buses)]


def _by_state_handlers(views: Views, objects: ObjectModel) -> Iterator[HostAddress]:
    head = views.address_of("vm_change_state_head")
    for entry in views.elements(head, VMChangeStateEntry, "entries"):
        try:
            if not entry.opaque or not objects.is_a(entry.opaque, VIRTIO_DEVICE):
                continue
            # virtio-blk registers a second handler with the same opaque; the device's own entry
            # is the one that it remembers.
            if views.at(VirtIODevice, entry.opaque).vmstate == entry.address_:
                yield entry.opaque
        except VringcoreError:
            # An opaque that is no object at all: most handlers are not virtio's.
            continue
