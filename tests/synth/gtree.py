"""Lays out glib's GTree as gtree.c does, with virtio-iommu's intervals and mappings in it.

Nothing of vringcore is imported here. A tree is {root, ...}; a node {key, value, left, right,
balance, left_child, right_child}, whose pointers lead to the neighbours in order where there is no
child.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Heap:
    """Blocks of memory one behind the other."""

    def __init__(self, base: int = 0x5000_0000) -> None:
        self.blocks: dict[int, bytes] = {}
        self._next = base

    def put(self, data: bytes) -> int:
        """Return the address of a new block."""
        address = self._next
        self.blocks[address] = data
        self._next += -(-len(data) // 16) * 16 + 16
        return address

    def tree(self, pairs: Sequence[tuple[int, int]], order: str = "<", word: str = "Q") -> int:
        """Return the address of a balanced tree of (key, value), which are given in order."""
        size = struct.calcsize(word)
        nodes = [self.put(bytes(4 * size + 8)) for _ in pairs]

        def build(first: int, last: int) -> int:
            if first >= last:
                return 0
            middle = (first + last) // 2
            left, right = build(first, middle), build(middle + 1, last)
            before = nodes[middle - 1] if middle else 0
            after = nodes[middle + 1] if middle + 1 < len(nodes) else 0
            key, value = pairs[middle]
            links = (left or before, right or after)
            self.blocks[nodes[middle]] = struct.pack(
                f"{order}4{word}bBB5x", key, value, *links, 0, bool(left), bool(right)
            )
            return nodes[middle]

        return self.put(struct.pack(f"{order}{word}", build(0, len(nodes))) + bytes(40))

    def mappings(self, rows: Sequence[tuple[int, int, int, int]]) -> int:
        """Return the address of a tree of mappings: low, high, physical address, flags."""
        pairs = [
            (self.put(struct.pack("<QQ", low, high)), self.put(struct.pack("<QI4x", to, flags)))
            for low, high, to, flags in rows
        ]
        return self.tree(pairs)
