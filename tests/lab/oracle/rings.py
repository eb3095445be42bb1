"""The raw bytes of rings, through QEMU's own mapping or through the tables of an IOMMU."""

from __future__ import annotations

from typing import Any

import gdb

from tests.lab.oracle.flatten import read
from tests.lab.oracle.iommu import read_translated

_EVENT_IDX = 1 << 29
_RING_PACKED = 1 << 34


def rings(queue: gdb.Value, features: int, iommu: dict[str, Any] | None) -> dict[str, Any]:
    """Hex of the three parts of a queue, and what they were found through."""
    caches = queue["vring"]["caches"]
    found: dict[str, str | None] = {}
    through = "caches"
    for part, length in _sizes(int(queue["vring"]["num"]), features).items():
        pointer = int(caches[part]["ptr"])
        if pointer == 0 and iommu is not None:
            through = "iommu"
            data = read_translated(iommu["mappings"], int(queue["vring"][part]), length)
            found[part] = None if data is None else data.hex()
        else:
            found[part] = _bytes_at(pointer, length)
    return {"rings": found, "rings_through": through}


def _sizes(size: int, features: int) -> dict[str, int]:
    if features & _RING_PACKED:
        # Virtio 1.2, 2.8: descriptors and an event suppression structure of either side.
        return {"desc": 16 * size, "avail": 4, "used": 4}
    # Virtio 1.2, 2.7: sizes of the three parts of a split virtqueue.
    event = 2 if features & _EVENT_IDX else 0
    return {"desc": 16 * size, "avail": 4 + 2 * size + event, "used": 4 + 8 * size + event}


def _bytes_at(address: int, length: int) -> str | None:
    if address == 0:
        return None
    try:
        return read(address, length).hex()
    except gdb.error:
        return None
