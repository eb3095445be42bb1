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

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import LimitError, VringcoreError
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
MAX_BUSES = 1024
"""Of one device."""
MAX_CHILDREN = 20_000
"""On all buses together."""
MAX_DEVICES = 10_000


class Found(msgspec.Struct, frozen=True):
    """A VirtIODevice's address and the ways that led to it."""

    address: int
    ways: tuple[str, ...]


def find_virtio_devices(views: Views, objects: ObjectModel) -> tuple[list[Found], list[Limitation]]:
    """Return every virtio device, in the order of the bus tree, and what went wrong on the way."""
    limits: list[Limitation] = []
    ways: dict[int, list[str]] = {}
    finished: list[str] = []

    def ask(way: str, search: Callable[[], Iterator[HostAddress]]) -> set[int]:
        found, error = collect(islice(_lazily(search), MAX_DEVICES))
        if error is None:
            finished.append(way)
        else:
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
    # A search that ended early says nothing against what it did not come to.
    for address, names in ways.items():
        missed = [way for way in finished if way not in names]
        if missed:
            limits.append(
                Limitation(
                    f"the virtio device at {address:#x} was found by {' and '.join(names)} only",
                    f"{' and '.join(missed)} did not lead to it:"
                    " it may be half made or half removed",
                )
            )
    return [Found(address, tuple(names)) for address, names in ways.items()], limits


def _lazily(search: Callable[[], Iterator[HostAddress]]) -> Iterator[HostAddress]:
    yield from search()


def _by_bus_tree(views: Views, objects: ObjectModel) -> Iterator[HostAddress]:
    """Yield the virtio devices on all buses; what can be reached comes before the first error."""
    root = views.pointer(views.address_of("main_system_bus"))
    pending = [(int(root), 0)]
    seen: set[int] = set()
    left = MAX_CHILDREN
    problem: VringcoreError | None = None
    while pending:
        address, depth = pending.pop()
        if not address or address in seen:
            continue
        if depth > MAX_BUS_DEPTH or left <= 0:
            problem = problem or LimitError("the tree of buses was cut", where=f"{address:#x}")
            continue
        seen.add(address)
        children, error = _children(views, address, left)
        left -= 1 + len(children)
        problem = problem or error
        buses: list[tuple[int, int]] = []
        for child in children:
            try:
                if objects.is_a(child, VIRTIO_DEVICE):
                    yield child
                device = views.at(DeviceState, child)
                if not device.first_bus:
                    continue
                below = views.elements(device.child_bus, BusState, "sibling", limit=MAX_BUSES)
            except VringcoreError as each:
                problem = problem or each
                continue
            found, ended = collect(below)
            problem = problem or ended
            buses += [(int(bus.address_), depth + 1) for bus in found]
        pending += reversed(buses)
    if problem is not None:
        raise problem


def _children(
    views: Views, bus: int, limit: int
) -> tuple[list[HostAddress], VringcoreError | None]:
    """Return the devices on a bus in the order of their creation, and what ended the list early."""
    try:
        head = views.at(BusState, bus).children
    except VringcoreError as error:
        return [], error
    children, ended = collect(
        each.child for each in views.elements(head, BusChild, "sibling", limit=limit)
    )
    # New children go to the head of the list, so the reverse is the order of creation.
    return children[::-1], ended


def _by_state_handlers(views: Views, objects: ObjectModel) -> Iterator[HostAddress]:
    head = views.address_of("vm_change_state_head")
    problem: VringcoreError | None = None
    for entry in views.elements(head, VMChangeStateEntry, "entries"):
        try:
            # Most handlers are not virtio's, and their opaque need not be an object at all.
            if not entry.opaque or not objects.is_a(entry.opaque, VIRTIO_DEVICE):
                continue
            # virtio-blk registers a second handler with the same opaque; the device's own entry
            # is the one that it remembers.
            if views.at(VirtIODevice, entry.opaque).vmstate == entry.address_:
                yield entry.opaque
        except VringcoreError as error:
            # Not "no object", which is told without an error: memory that the core lacks.
            problem = problem or error
    if problem is not None:
        raise problem
