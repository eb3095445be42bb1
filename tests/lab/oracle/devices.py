"""Every virtio device and queue with all members, its rings, its IOMMU and its vhost back-end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gdb

from tests.lab.oracle import iommu
from tests.lab.oracle.flatten import flatten, string, symbol
from tests.lab.oracle.lists import has, object_types, tail_queue, variable
from tests.lab.oracle.rings import rings
from tests.lab.oracle.vhost import vhost

_MAX_QUEUES = 1024
_IN_ORDER = 1 << 35

# QOM type to C type, as the instance_size of QEMU's TypeInfo tables says.
_MODELS = {
    "virtio-blk-device": "VirtIOBlock",
    "virtio-net-device": "VirtIONet",
    "virtio-scsi-device": "VirtIOSCSI",
    "virtio-serial-device": "VirtIOSerial",
    "virtio-rng-device": "VirtIORNG",
    "virtio-balloon-device": "VirtIOBalloon",
    "virtio-input-device": "VirtIOInput",
    "virtio-input-hid-device": "VirtIOInputHID",
    "virtio-mem": "VirtIOMEM",
    "virtio-9p-device": "V9fsVirtioState",
    "virtio-gpu-device": "VirtIOGPU",
    "virtio-crypto-device": "VirtIOCrypto",
    "virtio-pmem": "VirtIOPMEM",
    "virtio-iommu-device": "VirtIOIOMMU",
    "vhost-user-blk": "VHostUserBlk",
}


def devices() -> list[dict[str, Any]]:
    """All devices that listen for changes of the run state, as every virtio device does."""
    return [_device(found) for found in virtio_devices()]


def virtio_devices() -> Iterator[gdb.Value]:
    """Each `VirtIODevice`, in the order of the list of run-state handlers."""
    handler = int(gdb.parse_and_eval("(unsigned long)&virtio_vmstate_change"))
    pointer = gdb.lookup_type("VirtIODevice").pointer()
    for entry in tail_queue(variable("vm_change_state_head"), "entries"):
        callbacks = [entry[name] for name in ("cb", "cb_ret") if has(entry.dereference(), name)]
        if handler in [int(callback) for callback in callbacks]:
            yield entry["opaque"].cast(pointer).dereference()


def model_type(qom_types: list[str]) -> str | None:
    """The C type of a device model, by the most derived QOM type that is known."""
    return next((_MODELS[name] for name in qom_types if name in _MODELS), None)


def _device(device: gdb.Value) -> dict[str, Any]:
    address = int(device.address)
    types = object_types(address)
    model = model_type(types)
    proxy = device["parent_obj"]["parent_bus"]["parent"]
    found: dict[str, Any] = {
        "address": address,
        "qom_types": types,
        "c_type": model,
        "name": string(device["name"]),
        "canonical_path": string(device["parent_obj"]["canonical_path"]),
        "id": string(device["parent_obj"]["id"]) or string(proxy["id"]),
        "proxy_types": object_types(int(proxy)),
        **flatten(device),
        "iommu": None,
        "vhost": None,
    }
    region = iommu.memory_region(device)
    if region is not None:
        found["iommu"] = iommu.translation(region)
    found["queues"] = [_queue(queue, device, found["iommu"]) for queue in queues_of(device)]
    if "pci-device" in found["proxy_types"]:
        pci = proxy.cast(gdb.lookup_type("PCIDevice").pointer())
        found["devfn"] = int(pci["devfn"])
    if model is not None:
        whole = gdb.Value(address).cast(gdb.lookup_type(model).pointer()).dereference()
        found["model"] = flatten(whole)
        found["vhost"] = vhost(device, whole)
    return found


def queues_of(device: gdb.Value) -> Iterator[gdb.Value]:
    """Each `VirtQueue` that the device has set up."""
    for number in range(_MAX_QUEUES):
        queue = device["vq"][number]
        if _size(queue) == 0:
            return
        yield queue


def _queue(queue: gdb.Value, device: gdb.Value, translation: Any) -> dict[str, Any]:
    caches = queue["vring"]["caches"]
    found = {
        "address": int(queue.address),
        "role": symbol(queue["handle_output"]),
        **flatten(queue),
    }
    if int(caches) == 0:
        return {**found, "caches": None, "rings": None}
    features = int(device["guest_features"])
    found |= {"caches": flatten(caches.dereference()), **rings(queue, features, translation)}
    if features & _IN_ORDER and has(queue["used_elems"].dereference(), "in_order_filled"):
        found["used_elems"] = [_used_element(queue, slot) for slot in range(_size(queue))]
    return found


def _size(queue: gdb.Value) -> int:
    return int(queue["vring"]["num"])


def _used_element(queue: gdb.Value, slot: int) -> dict[str, int]:
    """What QEMU notes of a buffer that may have to wait for those before it."""
    element = queue["used_elems"][slot]
    return {name: int(element[name]) for name in ("index", "len", "ndescs", "in_order_filled")}
