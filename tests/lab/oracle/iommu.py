"""What an IOMMU lets a device reach, by a walk of its tables of its own.

Intel VT-d's tables lie in guest memory (Intel Virtualization Technology for Directed I/O, 3.4 to
3.8 and 9.1 to 9.8); the mappings of virtio-iommu lie in QEMU, in binary trees of glib.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import gdb

from tests.lab.oracle import process
from tests.lab.oracle.flatten import integer, read
from tests.lab.oracle.lists import object_types

_MAX_QUEUES = 1024
_ADDRESS = 0x000F_FFFF_FFFF_F000
_LARGE = 1 << 7
_SECONDARY_BUS = 0x19
"""PCI-to-PCI Bridge Architecture Specification 1.2, 3.2.5.4."""


def memory_region(device: gdb.Value) -> gdb.Value | None:
    """The memory region of the IOMMU that the rings of a device are reached through, if any."""
    for number in range(_MAX_QUEUES):
        ring = device["vq"][number]["vring"]
        if int(ring["num"]) == 0:
            return None
        region = ring["caches"]["desc"]["mrs"]["mr"] if int(ring["caches"]) else ring["caches"]
        if int(region) and bool(region["is_iommu"]):
            return region
    return None


def translation(region: gdb.Value) -> dict[str, Any]:
    """``{"kind", "mode", "mappings"}``; a mapping is iova, size and guest-physical address."""
    kind = object_types(int(region))[0]
    if kind.startswith("intel-iommu"):
        mode, found = _intel(_container(region, "VTDAddressSpace", "iommu"))
    elif kind.startswith("virtio-iommu"):
        mode, found = _virtio(_container(region, "IOMMUDevice", "iommu_mr"))
    elif kind.startswith("amd-iommu"):
        mode, found = _amd(_container(region, "AMDVIAddressSpace", "iommu"))
    else:
        raise LookupError(f"the oracle does not know the IOMMU of a {kind}")
    return {"kind": kind, "mode": mode, "mappings": _joined(sorted(found))}


def read_translated(mappings: list[dict[str, int]], iova: int, size: int) -> bytes | None:
    """The bytes at an address of the device; None if not all of them are mapped."""
    found = b""
    while len(found) < size:
        at = iova + len(found)
        mapping = next((m for m in mappings if m["iova"] <= at < m["iova"] + m["size"]), None)
        if mapping is None:
            return None
        length = min(size - len(found), mapping["iova"] + mapping["size"] - at)
        found += read_physical(mapping["physical"] + at - mapping["iova"], length)
    return found


def read_physical(address: int, size: int) -> bytes:
    """Bytes of guest memory within one range of the FlatView."""
    for part in process.flat_view():
        if part["host"] and part["start"] <= address < part["start"] + part["size"]:
            return read(part["host"] + address - part["start"], size)
    raise LookupError(f"no RAM at guest-physical {address:#x}")


def _container(region: gdb.Value, name: str, member: str) -> gdb.Value:
    kind = gdb.lookup_type(name)
    offset = next(field.bitpos // 8 for field in kind.fields() if field.name == member)
    return gdb.Value(int(region) - offset).cast(kind.pointer()).dereference()


def _joined(found: list[tuple[int, int, int]]) -> list[dict[str, int]]:
    joined: list[dict[str, int]] = []
    for iova, size, physical in found:
        last = joined[-1] if joined else None
        if last and (iova, physical) == (
            last["iova"] + last["size"],
            last["physical"] + last["size"],
        ):
            last["size"] += size
        else:
            joined.append({"iova": iova, "size": size, "physical": physical})
    return joined


# VT-d


def _intel(space: gdb.Value) -> tuple[str, list[tuple[int, int, int]]]:
    state = space["iommu_state"]
    root = int(state["root"]) + 16 * _bus_number(space["bus"])
    if bool(state["root_scalable"]):
        return _scalable(root, int(space["devfn"]))
    table = _words(root, 2)[0] & _ADDRESS
    low, high = _words(table + 16 * int(space["devfn"]), 2)
    if (low >> 2) & 3 == 2:
        return "pass-through", []
    return "legacy", list(_leaves(low & _ADDRESS, 2 + (high & 7), _second_level))


def _scalable(root: int, devfn: int) -> tuple[str, list[tuple[int, int, int]]]:
    table = _words(root, 2)[devfn >> 7] & _ADDRESS
    context = _words(table + 32 * (devfn & 0x7F), 4)
    pasid = context[1] & 0xFFFFF
    directory = _words((context[0] & _ADDRESS) + 8 * (pasid >> 6), 1)[0]
    entry = _words((directory & _ADDRESS) + 64 * (pasid & 63), 8)
    kind = (entry[0] >> 6) & 7
    if kind == 1:
        levels = 4 + ((entry[2] >> 2) & 3)
        return "first-level", list(_leaves(entry[2] & _ADDRESS, levels, _first_level))
    if kind == 2:
        levels = 2 + ((entry[0] >> 2) & 7)
        return "second-level", list(_leaves(entry[0] & _ADDRESS, levels, _second_level))
    return "pass-through" if kind == 4 else f"type {kind}", []


def _second_level(entry: int) -> bool:
    return bool(entry & 3)  # Read, write


def _first_level(entry: int) -> bool:
    return bool(entry & 1)  # Present


def _leaves(
    table: int, level: int, present: Callable[[int], bool], base: int = 0
) -> Iterator[tuple[int, int, int]]:
    shift = 12 + 9 * (level - 1)
    for number, entry in enumerate(_words(table, 512)):
        iova = base + (number << shift)
        if not present(entry):
            continue
        if level == 1 or entry & _LARGE:
            yield iova, 1 << shift, entry & _ADDRESS & -(1 << shift)
        else:
            yield from _leaves(entry & _ADDRESS, level - 1, present, iova)


def _words(address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}Q", read_physical(address, 8 * count))


def _bus_number(bus: gdb.Value) -> int:
    bridge = bus["parent_dev"]
    return int(bridge["config"][_SECONDARY_BUS]) if int(bridge) else 0


# AMD


def _amd(space: gdb.Value) -> tuple[str, list[tuple[int, int, int]]]:
    if bool(space["iommu_state"]["enabled"]):
        raise LookupError("the oracle does not know the tables of amd-iommu")
    return "off", [(0, 1 << 64, 0)]


# virtio-iommu


def _virtio(space: gdb.Value) -> tuple[str, list[tuple[int, int, int]]]:
    unit = space["viommu"].cast(gdb.lookup_type("VirtIOIOMMU").pointer())
    requester = _bus_number(space["bus"]) << 8 | int(space["devfn"])
    domains = [
        endpoint["domain"]
        for key, endpoint in _tree(unit["endpoints"], "VirtIOIOMMUEndpoint")
        if key == requester
    ]
    if not domains or int(domains[0]) == 0:
        return "no domain", []
    interval = gdb.lookup_type("VirtIOIOMMUInterval").pointer()
    found = []
    for key, mapping in _tree(domains[0]["mappings"], "VirtIOIOMMUMapping"):
        reach = gdb.Value(key).cast(interval)
        low, high = integer(reach["low"]), integer(reach["high"])
        found.append((low, high - low + 1, integer(mapping["phys_addr"])))
    return "domain", found


def _tree(tree: gdb.Value, kind: str) -> Iterator[tuple[int, gdb.Value]]:
    """Keys and values of a GTree; its layout is glib's own (2.74, gtree.c)."""
    (root,) = struct.unpack("<Q", read(int(tree), 8))
    pointer = gdb.lookup_type(kind).pointer()
    waiting = [root] if root else []
    while waiting:
        node = waiting.pop()
        key, value, left, right = struct.unpack("<4Q", read(node, 32))
        _, has_left, has_right = struct.unpack("<bBB", read(node + 32, 3))
        yield key, gdb.Value(value).cast(pointer)
        waiting += [left] * has_left + [right] * has_right
