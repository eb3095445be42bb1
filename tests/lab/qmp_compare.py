"""Compares a core's report with what QEMU said of itself over QMP.

A running VM moves on between the question and the core. What can change is compared only where
QEMU said the same before and after the core was taken; what cannot change, always.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import vringcore
from tests.lab import qmp_bits
from tests.lab.cases import Case, CoreCase
from vringcore.model.devices import Backend, Device
from vringcore.model.queues import Queue
from vringcore.model.report import Report
from vringcore.model.rings import SplitRing
from vringcore.model.values import Absent, Flags

SCALARS_OF_A_DEVICE = {
    "isr": "isr",
    "queue-sel": "queue_sel",
    "device-id": "device_id",
    "broken": "broken",
    "vm-running": "vm_running",
    "disabled": "disabled",
    "started": "started",
    "use-started": "use_started",
    "start-on-kick": "start_on_kick",
    "vhost-started": "vhost_started",
    "disable-legacy-check": "disable_legacy_check",
    "use-guest-notifier-mask": "use_guest_notifier_mask",
}
"""x-query-virtio-status: members of VirtIODevice by QMP's name."""

SCALARS_OF_A_QUEUE = {
    "queue-index": "queue_index",
    "inuse": "inuse",
    "last-avail-idx": "last_avail_idx",
    "shadow-avail-idx": "shadow_avail_idx",
    "used-idx": "used_idx",
    "signalled-used": "signalled_used",
    "signalled-used-valid": "signalled_used_valid",
    "vring-num": "vring.num",
    "vring-num-default": "vring.num_default",
    "vring-align": "vring.align",
    "vring-desc": "vring.desc",
    "vring-avail": "vring.avail",
    "vring-used": "vring.used",
}
"""x-query-virtio-queue-status: members of VirtQueue by QMP's name."""

ATTRIBUTES_OF_A_QUEUE: dict[str, Callable[[Queue], object]] = {
    "queue-index": lambda queue: queue.index,
    "inuse": lambda queue: queue.in_use,
    "last-avail-idx": lambda queue: queue.last_avail_idx,
    "shadow-avail-idx": lambda queue: queue.shadow_avail_idx,
    "used-idx": lambda queue: queue.used_idx,
    "signalled-used": lambda queue: queue.signalled_used,
    "signalled-used-valid": lambda queue: queue.signalled_used_valid,
    "vring-num": lambda queue: queue.size,
}

UNCHANGING = {
    *("device-id", "name", "num-vqs", "queue-index", "vring-num", "vring-num-default"),
    *("vring-align", "vring-desc", "vring-avail", "vring-used"),
    *("host-features", "guest-features", "device-endian", "use-started", "disable-legacy-check"),
}
"""What a driver that has set up its device does not change until it is unloaded."""

ENDIAN = {"little": 1, "big": 2}
"""``enum virtio_device_endian`` (include/hw/virtio/virtio.h)."""

FEATURE_PROPERTIES = {
    "event_idx": 29,
    "indirect_desc": 28,
    "notify_on_empty": 24,
    "any_layout": 27,
    "iommu_platform": 33,
    "packed": 34,
    "in_order": 35,
    "queue_reset": 40,
}
"""QOM properties of a virtio device that are bits of its host features."""


VHOST_NAMES = {"vhost-user-blk": "virtio-blk"}
"""QMP calls a device by the driver it has in the guest, whoever runs it."""


class Facts:
    """Facts compared so far, those that differ, and of how many chains."""

    def __init__(self) -> None:
        self.count = 0
        self.chains = 0
        self.differing: list[str] = []

    def same(self, what: str, ours: object, theirs: object) -> None:
        """Note one fact; a bool equals its number."""
        self.count += 1
        if isinstance(ours, Absent) or ours != theirs:
            self.differing.append(f"{what}: vringcore {ours!r}, QMP {theirs!r}")


def compare_core(core: CoreCase) -> Facts:
    """Compare all that QMP said with all that vringcore says of a core.

    The kernel writes its core later than gdb: of that one only what does not change is compared.
    """
    facts = Facts()
    at_the_moment = core.while_alive and core.case.qmp_after is not None
    with core.open() as opened:
        report = opened.report()
        assert isinstance(report.devices, tuple)
        devices = {device.qom_path: device for device in report.devices}
        if "virtio" in core.case.qmp_before:
            facts.same(
                "the device list",
                {path: _name(device) for path, device in devices.items()},
                {seen["path"]: seen["name"] for seen in core.case.qmp_before["virtio"]},
            )
        for device in devices.values():
            _compare_properties(facts, device, core.case.qmp_before["qom"])
        for before, after in _pairs(core.case, at_the_moment):
            device = devices[before["path"]]
            _compare_device(facts, device, before["status"], after["status"])
            assert isinstance(device.queues, tuple)
            facts.same(f"{device.id} queues", len(device.queues), before["status"]["num-vqs"])
            for queue, old, new in zip(
                device.queues, before["queues"], after["queues"], strict=True
            ):
                _compare_queue(facts, f"{device.id} queue {queue.index}", queue, old, new)
            if at_the_moment:
                _compare_elements(facts, opened, device, before["elements"], after["elements"])
        _compare_places(facts, report.devices, core.case.qmp_before)
        _compare_backends(facts, report.devices, core.case, at_the_moment)
        _compare_process(facts, report, core.case, at_the_moment)
    return facts


def _pairs(case: Case, at_the_moment: bool) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each device as it was before and after; afterwards only what cannot change is left."""
    for number, before in enumerate(case.qmp_before.get("virtio", ())):
        if at_the_moment:
            after = case.qmp_after["virtio"][number]
            assert after["path"] == before["path"]
            yield before, after
        else:
            yield (
                before,
                {
                    "status": _unchanging(before["status"]),
                    "queues": [_unchanging(queue) for queue in before["queues"]],
                },
            )


def _unchanging(said: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key in UNCHANGING}


def _compare_device(
    facts: Facts, device: Device, before: dict[str, Any], after: dict[str, Any]
) -> None:
    stable = {key for key in before if key in after and before[key] == after[key]}
    assert isinstance(device.fields, dict)
    for key in SCALARS_OF_A_DEVICE.keys() & stable:
        member = SCALARS_OF_A_DEVICE[key]
        facts.same(f"{device.id} {key}", device.fields[member], before[key])
    if "device-endian" in stable:
        endian = ENDIAN[before["device-endian"]]
        facts.same(f"{device.id} device-endian", device.fields["device_endian"], endian)
    for key, ours in {
        "name": _name(device),
        "device-id": device.device_id,
        "broken": device.broken,
        "vm-running": device.vm_running,
    }.items():
        if key in stable:
            facts.same(f"{device.id} {key} (attribute)", ours, before[key])
    for key, features in (
        ("host-features", device.host_features),
        ("guest-features", device.guest_features),
    ):
        if key in stable:
            _compare_features(facts, f"{device.id} {key}", features, before[key])
    if "status" in stable:
        assert isinstance(device.status, Flags)
        said = before["status"]
        facts.same(f"{device.id} status", int(device.status.value), qmp_bits.status_word(said))
        facts.same(
            f"{device.id} status names", set(device.status.names), qmp_bits.status_names(said)
        )
    if "backend-features" in stable:
        facts.same(
            f"{device.id} backend-features",
            int(device.fields["backend_features"]),
            qmp_bits.feature_word(before["backend-features"]),
        )


def _name(device: Device) -> str:
    return VHOST_NAMES.get(device.kind, device.kind)


def _compare_features(
    facts: Facts, what: str, ours: Flags | Absent, theirs: dict[str, Any]
) -> None:
    assert isinstance(ours, Flags)
    for bit in range(64):
        said = qmp_bits.feature_word(theirs) >> bit & 1
        facts.same(f"{what} bit {bit}", int(ours.value) >> bit & 1, said)
    named = qmp_bits.feature_names(theirs)
    facts.same(f"{what} names", named - set(ours.names), set())
    facts.same(f"{what} number of names", len(ours.names), int(ours.value).bit_count())


def _compare_properties(facts: Facts, device: Device, properties: dict[str, Any]) -> None:
    assert isinstance(device.qom_path, str)
    own = properties[device.qom_path]
    assert isinstance(device.host_features, Flags)
    for name, bit in FEATURE_PROPERTIES.items():
        if name in own:
            bits = int(device.host_features.value)
            facts.same(f"{device.id} property {name}", bool(bits >> bit & 1), own[name])
    facts.same(f"{device.id} type", device.type_name, own["type"])
    if device.kind == "virtio-blk":
        facts.same(f"{device.id} serial", device.serial or "", own["serial"])
        facts.same(
            f"{device.id} iothread", device.iothread or "", own["iothread"].rpartition("/")[2]
        )
        facts.same(f"{device.id} num-queues", _length(device.queues), own["num-queues"])


def _length(queues: object) -> int:
    assert isinstance(queues, tuple)
    return len(queues)


def _compare_queue(
    facts: Facts, what: str, queue: Queue, before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert isinstance(queue.fields, dict)
    for key, member in SCALARS_OF_A_QUEUE.items():
        if key not in before or before[key] != after.get(key):
            continue
        value: Any = queue.fields
        for name in member.split("."):
            value = value[name]
        facts.same(f"{what} {key}", value, before[key])
        if key in ATTRIBUTES_OF_A_QUEUE:
            ours = ATTRIBUTES_OF_A_QUEUE[key](queue)
            facts.same(f"{what} {key} (attribute)", ours, before[key])


def _compare_elements(
    facts: Facts,
    core: vringcore.Core,
    device: Device,
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
) -> None:
    """Compare chains with x-query-virtio-queue-element, which lists them last to first.

    It answers for a slot of the available ring. The slot's head may have been taken anew since
    its own request went by; so may QEMU's answer be about another request than ours in flight.
    """
    for said in before:
        if said not in after or "element" not in said:
            continue
        what = f"{device.id} queue {said['queue']} slot {said['slot']}"
        document = core.ring(str(device.index), said["queue"])
        split, element = document.split, said["element"]
        if not isinstance(split, SplitRing) or not isinstance(split.available, tuple):
            continue  # The ring is not in this core.
        size = len(split.available)
        facts.same(f"{what} head", split.available[said["slot"] % size].head, element["index"])
        guest = split.guest
        facts.same(f"{what} avail.idx", guest.avail_idx, element["avail"]["idx"])
        facts.same(f"{what} avail.flags", guest.avail_flags, element["avail"]["flags"])
        facts.same(f"{what} used.idx", guest.used_idx, element["used"]["idx"])
        facts.same(f"{what} used.flags", guest.used_flags, element["used"]["flags"])
        for chain in document.chains:
            if chain.head != element["index"]:
                continue
            ours = [
                (int(d.address), d.length, sorted(d.flag_names))
                for d in chain.descriptors
                if "indirect" not in d.flag_names
            ]
            theirs = [(d["addr"], d["len"], sorted(d["flags"])) for d in element["descs"]]
            facts.chains += 1
            facts.same(f"{what} length of the chain", len(ours), len(theirs))
            for mine, its in zip(ours, reversed(theirs), strict=False):
                facts.same(f"{what} descriptor", mine, its)


def _compare_places(facts: Facts, devices: tuple[Device, ...], qmp: dict[str, Any]) -> None:
    places = {
        seen["qdev_id"]: f"{seen['bus']:02x}:{seen['slot']:02x}.{seen['function']}"
        for bus in qmp["query-pci"]
        for seen in _pci_devices(bus["devices"])
        if seen["qdev_id"]
    }
    for device in devices:
        assert device.id is not None
        facts.same(f"{device.id} PCI address", device.pci_address, places.get(device.id))
    names = {thread["id"] for thread in qmp["query-iothreads"]}
    ours = {device.iothread for device in devices if device.iothread is not None}
    facts.same("iothreads that QEMU does not have", ours - names, set())


def _pci_devices(devices: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for device in devices:
        yield device
        yield from _pci_devices(device.get("pci_bridge", {}).get("devices", []))


def _compare_backends(
    facts: Facts, devices: tuple[Device, ...], case: Case, at_the_moment: bool
) -> None:
    """Compare with query-block (by device) and query-named-block-nodes (by node name)."""
    ours: dict[object, Backend] = {}
    for device in devices:
        if isinstance(device.backend, Backend):
            # QMP names it by the id of the device proper, which only virtio-mmio gives it.
            ours[device.id if device.transport == "mmio" else device.qom_path] = device.backend
        for disk in device.disks or ():
            if isinstance(disk.backend, Backend):
                ours[disk.id] = disk.backend
    nodes = {node["node-name"]: node for node in case.qmp_before["query-named-block-nodes"]}
    said = {drive["qdev"]: drive for drive in case.qmp_before["query-block"] if "qdev" in drive}
    later = case.qmp_after["query-block"] if at_the_moment else []
    facts.same("devices with a medium", set(ours), set(said))
    for path, backend in ours.items():
        inserted = said[path]["inserted"]
        node = nodes[inserted["node-name"]]
        facts.same(f"{path} node", backend.node, inserted["node-name"])
        facts.same(f"{path} driver", backend.driver, inserted["drv"])
        facts.same(f"{path} driver of its node", backend.driver, node["drv"])
        facts.same(f"{path} file", _plain(backend.file), _plain(inserted["file"]))
        facts.same(f"{path} image", _plain(backend.file), _plain(node["image"]["filename"]))
        facts.same(f"{path} name", backend.name or "", said[path]["device"])
        if any(drive.get("io-status") == said[path].get("io-status") for drive in later):
            facts.same(f"{path} io-status", backend.io_status, said[path].get("io-status"))


def _plain(name: object) -> object:
    """Return a file name; one in JSON, whose blanks mean nothing, parsed."""
    is_json = isinstance(name, str) and name.startswith("json:")
    return json.loads(str(name).removeprefix("json:")) if is_json else name


def _compare_process(facts: Facts, report: Report, case: Case, at_the_moment: bool) -> None:
    qmp, qemu = case.qmp_before, report.qemu
    version = qmp["query-version"]["qemu"]
    number = f"{version['major']}.{version['minor']}.{version['micro']}"
    assert isinstance(qemu.version, str)
    facts.same("version", qemu.version.partition(" ")[0], number)
    facts.same("name", qemu.vm_name, qmp["query-name"].get("name"))
    unset = "00000000-0000-0000-0000-000000000000"
    facts.same("UUID", qemu.vm_uuid or unset, qmp["query-uuid"]["UUID"])
    if at_the_moment and qmp["query-status"] == case.qmp_after["query-status"]:
        facts.same("run state", qemu.run_state, qmp["query-status"]["status"])
