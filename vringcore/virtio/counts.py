"""What the indices of a split ring say, in numbers.

Who moved which index: the driver moves ``avail.idx`` and ``used_event``, the device ``used.idx``
and ``avail_event`` (VirtIO 1.3, 2.7.6 to 2.7.10). ``last_avail_idx`` is the device's private note
of how far it has taken from the available ring. All are free-running 16-bit counters. A result
larger than the queue means that one of the two indices is damaged or from another moment.
"""

from __future__ import annotations

from vringcore import ring_math


def unseen(avail_idx: int, last_avail_idx: int) -> int:
    """Return how many chains the driver published and the device has not yet taken."""
    return ring_math.distance(avail_idx, last_avail_idx)


def popped(last_avail_idx: int, used_idx: int) -> int:
    """Return how many chains the device took and has not yet given back."""
    return ring_math.distance(last_avail_idx, used_idx)


def outstanding(avail_idx: int, used_idx: int) -> int:
    """Return how many chains the driver published and has not got back.

    Both indices lie in guest memory, so this holds whoever the device is.
    """
    return ring_math.distance(avail_idx, used_idx)


def leaked(popped_count: int, in_use: int) -> int:
    """Return how many chains were taken and are neither in use nor given back.

    Negative if the device counts more chains in use than it took: a chain was given back twice,
    or given back after a reset.

    :param popped_count: as :func:`popped` returns it
    :param in_use: the device's own count of chains it works on
    """
    return popped_count - in_use


def past_used_event(used_idx: int, used_event: int) -> int:
    """Return by how many completions the used ring is past the driver's interrupt request.

    A driver that waits for the next completion keeps ``used_event`` at the index it has consumed
    up to, so this is what it has not seen. It is a hint only: a driver may ask for an interrupt
    further on, or leave any old value there while it does not wait.
    """
    return ring_math.distance(used_idx, used_event)
