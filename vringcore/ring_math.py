"""The one place of ring index arithmetic.

Split-ring indices (``avail.idx``, ``used.idx`` and QEMU's copies of them) are free-running 16-bit
counters that wrap from 65535 to 0 (VirtIO 1.3, 2.7.6 and 2.7.8). Subtracting two of them as plain
integers is wrong once in 65536 requests, so nothing else in this library does it.
"""

from __future__ import annotations

INDEX_MASK = 0xFFFF


def distance(newer: int, older: int) -> int:
    """Return how many steps ``newer`` is ahead of ``older``, 0 to 65535, across wrap-around."""
    return (newer - older) & INDEX_MASK


def advance(index: int, steps: int = 1) -> int:
    """Return the free-running index ``steps`` after ``index``; ``steps`` may be negative."""
    return (index + steps) & INDEX_MASK


def slot(index: int, size: int) -> int:
    """Return the ring slot that a free-running index names in a ring of ``size`` entries."""
    return (index & INDEX_MASK) % size


def packed_distance(newer: int, older: int, size: int, *, wrapped: bool) -> int:
    """Return how many descriptors one position in a packed ring is ahead of another.

    A position is a slot, 0 to ``size - 1``, and a wrap counter that changes each time the slot
    passes the end (VirtIO 1.3, 2.8.1). A result outside 0 to ``size`` means that the two positions
    cannot both be true.

    :param wrapped: whether the wrap counters of the two positions differ
    """
    return newer - older + (size if wrapped else 0)


def need_event(event: int, new: int, old: int) -> bool:
    """Tell whether moving an index from ``old`` to ``new`` passes ``event``.

    The test of VirtIO 1.3, 2.7.10 (``vring_need_event``): true when the other side asked to be
    notified about an entry between ``old`` (inclusive) and ``new`` (exclusive).
    """
    return distance(new, advance(event)) < distance(new, old)
