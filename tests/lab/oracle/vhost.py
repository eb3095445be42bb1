"""What QEMU knows of queues that another process runs, and the memory shared with it."""

from __future__ import annotations

from typing import Any

import gdb

from tests.lab.oracle.flatten import flatten, integer, read
from tests.lab.oracle.lists import linked_list, optional_variable


def vhost(device: gdb.Value, whole: gdb.Value | None) -> dict[str, Any] | None:
    """The `vhost_dev` of a device; None for a device that QEMU runs itself.

    :param whole: the structure of the device model; one whose back-end is gone has its
        `vhost_dev` there only
    """
    address = int(device.address)
    listed = [found for found in _listed() if int(found["vdev"]) == address]
    members = [] if whole is None else [field.name for field in whole.type.fields()]
    if not listed and "vhost_vqs" not in members:
        return None
    assert whole is not None
    found = listed[0].dereference() if listed else whole["dev"]
    has_inflight = "inflight" in members and int(whole["inflight"])
    return {
        "address": int(found.address),
        "listed": bool(listed),
        **flatten(found),
        "queues": _queues(found),
        "memory": _memory(found["mem"]),
        "inflight": _inflight(whole["inflight"].dereference()) if has_inflight else None,
    }


def _listed() -> list[gdb.Value]:
    head = optional_variable("vhost_devices")
    return [] if head is None else list(linked_list(head, "entry"))


def _queues(found: gdb.Value) -> list[dict[str, Any]]:
    vectors = found["vqs"]
    if int(vectors) == 0:
        return []
    return [
        {"address": int(vectors[number].address), **flatten(vectors[number])}
        for number in range(int(found["nvqs"]))
    ]


def _memory(table: gdb.Value) -> list[dict[str, int]]:
    """The ranges of guest memory that the back-end was told of."""
    if int(table) == 0:
        return []
    first = table["regions"][0].address
    return [
        {
            "guest": integer(first[number]["guest_phys_addr"]),
            "size": integer(first[number]["memory_size"]),
            "host": integer(first[number]["userspace_addr"]),
        }
        for number in range(int(table["nregions"]))
    ]


def _inflight(record: gdb.Value) -> dict[str, Any]:
    """The structure and the bytes of the region that the back-end notes its requests in."""
    address, size = int(record["addr"]), integer(record["size"])
    region = None
    if address:
        try:
            region = read(address, size).hex()
        except gdb.error:
            region = None
    return {"address": int(record.address), **flatten(record), "region": region}
