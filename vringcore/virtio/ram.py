"""Requests about the guest's memory: balloon, memory, persistent memory, IOMMU; and entropy.

VirtIO 1.3: 5.4.6 entropy, 5.5.6 balloon, 5.13.6 IOMMU, 5.15.6 memory, 5.19.6 persistent memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.virtio.fields import Code, Table, named, words

if TYPE_CHECKING:
    from vringcore.virtio.fields import Header, Request

PFN_SIZE = 4
"""Bytes of a page number in a balloon's request; it counts 4096-byte pages (5.5.6)."""

MAX_STATS = 64
"""Statistics that are read of a request; the specification has sixteen."""

_STATS = (
    *("swap-in", "swap-out", "major-faults", "minor-faults", "free-memory", "total-memory"),
    *("available-memory", "disk-caches", "hugetlb-allocations", "hugetlb-failures", "oom-kills"),
    *("alloc-stalls", "scan-async", "scan-direct", "reclaim-async", "reclaim-direct"),
)
"""Tags of statistics from 0 on (5.5.6.3)."""

_STAT = Table("tag:H val:Q")
_HINT = Table("cmd_id:I")

_MEM_TYPES = {0: "plug", 1: "unplug", 2: "unplug-all", 3: "state"}
_MEM_TYPE = Table("type:H _:H _:H _:H", type=_MEM_TYPES)
_MEM_RANGE = Table("addr:A nb_blocks:H _:H _:H _:H")

_PMEM = Table("type:I", type={0: "flush"})

_IOMMU_TYPES = {1: "attach", 2: "detach", 3: "map", 4: "unmap", 5: "probe"}
_IOMMU_HEAD = Table("type:B _:3s", type=_IOMMU_TYPES)
_IOMMU_BODIES = {
    1: Table("domain:I endpoint:I flags:I _:4s"),
    2: Table("domain:I endpoint:I _:8s"),
    3: Table("domain:I virt_start:A virt_end:A phys_start:A flags:I"),
    4: Table("domain:I virt_start:A virt_end:A _:4s"),
    5: Table("endpoint:I _:64s"),
}


def entropy(request: Request) -> Header:
    """A request of an entropy device has no header: a buffer to fill."""
    return request.header("entropy", {}, f"{request.writable} bytes wanted")


def balloon(request: Request) -> Header:
    """Read a request of a balloon; which pages it is about is told by their number alone."""
    if request.role in ("inflate", "deflate"):
        pages = request.readable // PFN_SIZE
        request.short = bool(request.readable % PFN_SIZE)
        return request.header(request.role, {"num_pfns": pages}, f"{pages} pages")
    if request.role == "stats":
        stats = {}
        for each in request.take_all(_STAT, MAX_STATS):
            tag = each["tag"]
            stats[_STATS[tag] if tag < len(_STATS) else f"tag {tag}"] = each["val"]
        request.short = bool(request.rest % _STAT.size)
        return request.header("statistics", stats, f"{len(stats)} of them")
    if request.role == "free-page" and request.readable:
        # 5.5.6.5: a command id begins and ends the hints; 0 stops, 1 is done.
        fields: dict[str, Any] = request.take(_HINT)
        return request.header("free-page-command", fields, words(fields, "cmd_id"))
    operation = {"free-page": "free-page-hint", "reporting": "free-page-report"}.get(request.role)
    return request.header(operation or "unknown", {}, f"{request.writable} bytes of free pages")


def memory(request: Request) -> Header:
    """Read a request of a memory device: which blocks are to be plugged or told of."""
    fields: dict[str, Any] = request.take(_MEM_TYPE)
    kind = fields.get("type")
    if isinstance(kind, Code) and kind.value in (0, 1, 3) and not request.short:
        fields |= request.take(_MEM_RANGE)
    return request.header(named(kind), fields, words(fields, "addr", "nb_blocks"))


def persistent_memory(request: Request) -> Header:
    """Read a request of a persistent memory device: there is but one, a flush."""
    fields = request.take(_PMEM)
    return request.header(named(fields.get("type")), fields)


def iommu(request: Request) -> Header:
    """Read a request of an IOMMU."""
    if request.role == "event":
        return request.header("event-buffer", {})
    fields: dict[str, Any] = request.take(_IOMMU_HEAD)
    kind = fields.get("type")
    body = _IOMMU_BODIES.get(kind.value) if isinstance(kind, Code) else None
    if body is not None and not request.short:
        fields |= request.take(body)
    places = ("domain", "endpoint", "virt_start", "virt_end", "phys_start")
    return request.header(named(kind), fields, words(fields, *places))
