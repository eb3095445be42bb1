"""Every virtio device and queue with all members, and the raw bytes of the rings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gdb

from tests.lab.oracle.flatten import flatten, read, string, symbol
from tests.lab.oracle.lists import has, object_types, tail_queue, variable

_EVENT_IDX = 1 << 29
_MAX_QUEUES = 1024

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
        "queues": [_queue(queue, device) for queue in _queues(device)],
    }
    if "pci-device" in found["proxy_types"]:
        pci = proxy.cast(gdb.lookup_type("PCIDevice").pointer())
        found["devfn"] = int(pci["devfn"])
    if model is not None:
        whole = gdb.Value(address).cast(gdb.lookup_type(model).pointer()).dereference()
        found["model"] = flatten(whole)
    return found


def _queues(device: gdb.Value) -> Iterator[gdb.Value]:
    for number in range(_MAX_QUEUES):
        queue = device["vq"][number]
        if int(queue["vring"]["num"]) == 0:
            return
        yield queue


def _queue(queue: gdb.Value, device: gdb.Value) -> dict[str, Any]:
    caches = queue["vring"]["caches"]
    found = {
        "address": int(queue.address),
        "role": symbol(queue["handle_output"]),
        **flatten(queue),
    }
    if int(caches) == 0:
        return {**found, "caches": None, "rings": None}
    event_index = bool(int(device["guest_features"]) & _EVENT_IDX)
    return {
        **found,
        "caches": flatten(caches.dereference()),
        "rings": _rings(caches, int(queue["vring"]["num"]), event_index),
    }


def _rings(caches: gdb.Value, size: int, event_index: bool) -> dict[str, Any]:
    # Virtio 1.2, 2.7: sizes of the three parts of a split virtqueue.
    event = 2 if event_index else 0
    sizes = {"desc": 16 * size, "avail": 4 + 2 * size + event, "used": 4 + 8 * size + event}
    return {part: _bytes_at(int(caches[part]["ptr"]), length) for part, length in sizes.items()}


def _bytes_at(address: int, length: int) -> str | None:
    if address == 0:
        return None
    try:
        return read(address, length).hex()
    except gdb.error:
        return None
