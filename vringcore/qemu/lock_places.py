"""Where QEMU's locks lie: those that are variables, and those inside structures it can reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import VringcoreError
from vringcore.layout.types import Record
from vringcore.model.report import Limitation
from vringcore.qemu import lock_structs as structs
from vringcore.qemu.aio_structs import AioContext
from vringcore.qemu.block_nbd import is_nbd
from vringcore.qemu.block_state_structs import ThrottleGroup
from vringcore.qemu.loops_places import Threads, find_loops
from vringcore.qemu.thread_structs import CPUS, CPUState
from vringcore.qemu.throttle import MAX_GROUPS
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.process import Process

Structure = tuple[str, tuple[str, ...], tuple[str, ...]]

BQL = "BQL"

_CO_MUTEX = "CoMutex"
_LOCKS = frozenset({"QemuMutex", "QemuRecMutex", _CO_MUTEX})

_DRIVERS = {"qcow2": structs.QCOW2, "throttle": structs.THROTTLE_NODE}
_DEVICES = {"virtio-blk-device": structs.VIRTIO_BLK, "virtio-scsi-device": structs.VIRTIO_SCSI}


class LockPlace(msgspec.Struct, frozen=True):
    """A lock, where it is not known yet whether it is held.

    :param address: of the pthread_mutex_t, or of the CoMutex
    :param debugged: it is the first member of a QemuMutex, which may tell who locked it
    """

    address: int
    name: str
    coroutines: bool = False
    debugged: bool = True


class LockPlaces:
    """Finds locks. What cannot be reached is added to ``limits``."""

    def __init__(
        self, process: Process, devices: Sequence[RawDevice], limits: list[Limitation]
    ) -> None:
        self._process = process
        self._views = process.views
        self._devices = devices
        self._limits = limits
        self._members: dict[str, list[tuple[str, int, bool]]] = {}

    def all(self) -> list[LockPlace]:
        """Return the locks that were reached, variables first, each address once."""
        found: dict[int, LockPlace] = {}
        walks: tuple[tuple[str, Callable[[], Iterator[LockPlace]]], ...] = (
            ("variables", self._variables),
            ("event loops", self._event_loops),
            ("the block layer", self._block_layer),
            ("throttle groups", self._throttle_groups),
            ("devices", self._of_devices),
            ("vCPUs", self._cpus),
            ("the migration", self._migration),
        )
        for what, walk in walks:
            places, error = collect(walk())
            if error is not None:
                why = Limitation(f"locks of {what} may be missing", str(error), error.hint)
                self._limits.append(why)
            for place in places:
                found.setdefault(place.address, place)
        return list(found.values())

    def _variables(self) -> Iterator[LockPlace]:
        for variable, (name, units) in structs.VARIABLES.items():
            address = self._views.find_address_of(variable, units[0])
            if address is not None:
                yield LockPlace(address, name)

    def _event_loops(self) -> Iterator[LockPlace]:
        views = self._views
        for loop in find_loops(self._process, Threads(self._process), self._limits):
            name = loop.name if isinstance(loop.name, str) else f"the loop at {loop.address:#x}"
            for member, place in self._inside(structs.EVENT_LOOP, loop.address):
                yield msgspec.structs.replace(place, name=f"AioContext {member} of {name}")
            pool = views.at(AioContext, loop.address).thread_pool
            for structure in (structs.THREAD_POOL_AIO, structs.THREAD_POOL) if pool else ():
                found = list(self._of(structure, int(pool), name))
                yield from found
                if found:
                    break

    def _block_layer(self) -> Iterator[LockPlace]:
        layer = self._process.block
        (backends, nodes), lost = layer.noting(lambda: (layer.backends(), layer.nodes()))
        self._limits += lost
        for blk in backends:
            name = self._views.string_or_none(blk.name) or f"the back-end at {blk.address_:#x}"
            yield from self._of(structs.BACKEND, blk.address_, name)
        for node in nodes:
            yield from self._of(structs.NODE, node.address, f"node {node.name}")
            driver = node.driver if isinstance(node.driver, str) else ""
            structure = structs.NBD if is_nbd(node) else _DRIVERS.get(driver)
            if structure is not None and node.view.opaque:
                yield from self._of(structure, int(node.view.opaque), f"node {node.name}")

    def _throttle_groups(self) -> Iterator[LockPlace]:
        views = self._views
        head = views.find_address_of("throttle_groups", structs.THROTTLE_GROUP[1][0])
        if head is None:
            return
        for group in views.elements(head, ThrottleGroup, "list", limit=MAX_GROUPS):
            name = views.string_or_none(group.name) or f"the group at {group.address_:#x}"
            yield from self._of(structs.THROTTLE_GROUP, group.address_, name)

    def _of_devices(self) -> Iterator[LockPlace]:
        for index, device in enumerate(self._devices):
            structure = _DEVICES.get(device.type_name)
            if structure is not None:
                yield from self._of(structure, device.address, f"device {index}")

    def _cpus(self) -> Iterator[LockPlace]:
        views = self._views
        places = (views.find_address_of(name, unit) for name, unit in CPUS.items())
        head = next((place for place in places if place is not None), None)
        for cpu in () if head is None else views.elements(head, CPUState, "node"):
            yield from self._of(structs.CPU, cpu.address_, f"vCPU {cpu.cpu_index}")

    def _migration(self) -> Iterator[LockPlace]:
        views = self._views
        place = views.find_address_of("current_migration", structs.MIGRATION[1][0])
        state = views.pointer(place) if place is not None else 0
        if state:
            yield from self._of(structs.MIGRATION, int(state), "the migration")

    def _of(self, structure: Structure, address: int, name: str) -> Iterator[LockPlace]:
        c_name = structure[0].partition(" ")[2]
        for member, place in self._inside(structure, address):
            yield msgspec.structs.replace(place, name=f"{c_name}.{member} of {name}")

    def _inside(self, structure: Structure, address: int) -> Iterator[tuple[str, LockPlace]]:
        """Yield the locks of a structure that this build has, by their members' names."""
        for member, offset, coroutines in self._locks_of(structure):
            yield member.rpartition(".")[2], LockPlace(address + offset, "", coroutines)

    def _locks_of(self, structure: Structure) -> list[tuple[str, int, bool]]:
        """Return name and offset of a structure's locks, and whether each is a CoMutex."""
        c_type, units, names = structure
        known = self._members.get(c_type)
        if known is not None:
            return known
        found = self._members[c_type] = []
        layouts = self._views.layouts
        try:
            definition = layouts.find_definition(c_type, units)
            record = None if definition is None else layouts.resolve(definition)
            for name in names if isinstance(record, Record) else ():
                assert isinstance(record, Record)
                place = layouts.member(record, name)
                type_ = layouts.resolve(place[1]) if place is not None else None
                kind = type_.name if isinstance(type_, Record) else None
                if place is not None and kind in _LOCKS:
                    found.append((name, place[0], kind == _CO_MUTEX))
        except VringcoreError as error:
            self._limits.append(
                Limitation(f"locks of {c_type} may be missing", str(error), error.hint)
            )
        return found
