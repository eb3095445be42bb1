"""Addresses of different spaces are different types, so that mypy refuses to mix them."""

from __future__ import annotations

from typing import NewType

from vringcore.errors import AddressOverflowError

HostAddress = NewType("HostAddress", int)
"""A virtual address of the QEMU process."""

GuestAddress = NewType("GuestAddress", int)
"""A guest-physical address (QEMU's ``hwaddr`` in ``address_space_memory``)."""

IoVirtualAddress = NewType("IoVirtualAddress", int)
"""An address as a device behind an IOMMU uses it."""

SPACE_END = 1 << 64


def end_of(address: int, size: int) -> int:
    """Return ``address + size``.

    :raises AddressOverflowError: if the sum does not fit the 64-bit address space, or either part
        is negative
    """
    end = address + size
    if address < 0 or size < 0 or end > SPACE_END:
        raise AddressOverflowError(
            "an address range leaves the 64-bit address space",
            where=f"{address:#x}",
            seen=f"a size of {size:#x} bytes",
            hint="the number that led here is damaged",
        )
    return end
