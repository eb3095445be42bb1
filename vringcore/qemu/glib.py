"""glib's hash tables, whose layout glib keeps to itself (glib/ghash.c).

Three arrays of ``size`` slots: hashes (``guint``), keys and values (pointers, or ``guint`` where
glib has found that all of them fit). A hash of 0 marks an empty slot, 1 a removed one.
"""

from __future__ import annotations

from struct import Struct, unpack
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError, LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.view.views import Views

MAX_SLOTS = 1 << 20
MIN_SLOTS = 8
FIRST_REAL_HASH = 2


class _Head(msgspec.Struct, frozen=True):
    """``struct _GHashTable`` up to the arrays."""

    size: int
    mask: int
    nnodes: int
    noccupied: int
    big_keys: bool
    big_values: bool
    keys: int
    hashes: int
    values: int


def hash_table(views: Views, address: int) -> Iterator[tuple[HostAddress, HostAddress]]:
    """Yield the (key, value) pairs of a ``GHashTable``, in the order of its slots.

    A table that is used as a set gives each key as its own value.

    :raises CorruptDataError: if this is no hash table, or, after the last pair, if the number of
        pairs is not ``nnodes``: then the core was taken while the table was being changed
    :raises LimitError: if it has more than :data:`MAX_SLOTS` slots
    :raises MemoryFault: if a part of it is not there
    """
    head = _read_head(views, address)
    if not head.nnodes:
        return
    hashes = _array(views, head.hashes, head.size, 4)
    pointer = views.pointer_size
    keys = _array(views, head.keys, head.size, pointer if head.big_keys else 4)
    if head.values == head.keys:
        values = keys
    else:
        values = _array(views, head.values, head.size, pointer if head.big_values else 4)
    live = 0
    for hash_, key, value in zip(hashes, keys, values, strict=True):
        if hash_ >= FIRST_REAL_HASH:
            live += 1
            yield HostAddress(key), HostAddress(value)
    if live != head.nnodes:
        raise _corrupt(address, f"{live} pairs", f"nnodes, {head.nnodes}")


def _read_head(views: Views, address: int) -> _Head:
    big_endian = views.layouts.big_endian
    order = ">" if big_endian else "<"
    flags = None
    if views.pointer_size == 4:
        # As below, glib 2.60 and later; there are no small arrays where a pointer is a guint.
        row = Struct(order + "I4xIII4x3I")
        fields = row.unpack(views.space.read(HostAddress(address), row.size))
        size, mask, nnodes, noccupied, keys, hashes, values = fields
    else:
        data = views.space.read(HostAddress(address), 56)
        (size,) = unpack(order + "Q", data[:8])
        if size <= 0xFFFFFFFF:
            # gsize size; gint mod; guint mask, nnodes, noccupied; bit-field; the arrays
            fields = unpack(order + "4xIIII4x3Q", data[8:])
            mask, nnodes, noccupied, flags, keys, hashes, values = fields
        else:
            # Until glib 2.62 size was a gint, so it shares eight bytes with mod, which is never 0.
            # Before 2.60 there is no bit-field but padding, and every array is one of pointers.
            fields = unpack(order + "i4xIII4x3Q", data[:48])
            size, mask, nnodes, noccupied, keys, hashes, values = fields
    head = _Head(
        size,
        mask,
        nnodes,
        noccupied,
        flags is None or _bit(flags, 0, big_endian),
        flags is None or _bit(flags, 1, big_endian),
        keys,
        hashes,
        values,
    )
    _check(address, head)
    return head


def _bit(word: int, number: int, big_endian: bool) -> bool:
    """Tell a bit-field's bit: counted from the most significant one on big-endian machines."""
    return bool(word >> (31 - number if big_endian else number) & 1)


def _check(address: int, head: _Head) -> None:
    size = head.size
    if size < MIN_SLOTS or size & (size - 1):
        raise _corrupt(address, f"size {size}", f"a power of two from {MIN_SLOTS} on")
    if head.mask != size - 1:
        raise _corrupt(address, f"mask {head.mask:#x}", f"{size - 1:#x}")
    if not head.nnodes <= head.noccupied <= size:
        raise _corrupt(
            address,
            f"nnodes {head.nnodes}, noccupied {head.noccupied}",
            f"nnodes <= noccupied <= size, {size}",
        )
    if size > MAX_SLOTS:
        raise LimitError(
            "a GHashTable too large to be walked",
            where=f"{address:#x}",
            seen=f"{size} slots",
            expected=f"at most {MAX_SLOTS}",
        )


def _corrupt(address: int, seen: str, expected: str) -> CorruptDataError:
    return CorruptDataError(
        "a GHashTable that contradicts itself",
        where=f"{address:#x}",
        seen=seen,
        expected=expected,
        hint="the core may have been taken while it was changed, or it is no GHashTable",
    )


def _array(views: Views, address: int, count: int, width: int) -> tuple[int, ...]:
    data = views.space.read(HostAddress(address), count * width)
    order = ">" if views.layouts.big_endian else "<"
    return unpack(f"{order}{count}{'Q' if width == 8 else 'I'}", data)
