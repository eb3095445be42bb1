"""The document of ``vringcore memory``."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.report import Limitation, Tool
from vringcore.model.values import Absent, Hex


class GuestRegion(msgspec.Struct, frozen=True):
    """A range of guest-physical addresses and what answers there (a ``FlatRange``).

    :param start: its first address
    :param end: the address behind its last one
    :param kind: ``ram``, ``rom`` (RAM that the guest cannot write), ``rom-device`` (flash that is
        read like RAM), ``ram-device`` (memory of a passed-through device), ``iommu`` or ``mmio``
    :param name: of the MemoryRegion
    :param offset: of the range's first byte in the MemoryRegion
    :param block: the RAMBlock's id; null where there is none
    :param host: address in the QEMU process; null where there is no RAM
    :param file_offset: of the first byte in the core, null if it does not lie in it
    :param in_core: bytes that can be read; null where there is no RAM
    """

    start: Hex
    end: Hex
    size: int
    kind: str | Absent
    name: str | Absent
    offset: Hex
    block: str | Absent | None
    host: Hex | Absent | None
    file_offset: int | None
    in_core: int | None


class GuestBlock(msgspec.Struct, frozen=True):
    """A RAMBlock: one allocation of guest memory in the QEMU process.

    :param id: its ``idstr``
    :param ram_address: its place among all blocks (``ram_addr_t``), which is no guest address
    :param used_length: bytes that the guest has
    :param max_length: bytes that it may be resized to
    :param file_offset: of the first byte in the core, null if it does not lie in it
    :param in_core: bytes of ``used_length`` that can be read
    """

    id: str
    host: Hex
    ram_address: Hex
    used_length: int
    max_length: int
    page_size: int
    shared: bool
    file_offset: int | None
    in_core: int


class MemoryPiece(msgspec.Struct, frozen=True):
    """A part of what was asked for: bytes, or why there are none.

    :param data: in base 16, two digits a byte
    """

    address: Hex
    size: int
    data: str | Absent


class MemoryRead(msgspec.Struct, frozen=True):
    """Bytes of the guest.

    :param space: ``guest-physical``, ``guest-virtual``, or ``device``: as a device sees it
    :param cpu: the vCPU whose page tables translated; null for other addresses
    :param root: guest-physical address of those page tables
    :param device: index of the device
    """

    space: str
    cpu: int | None
    root: Hex | None
    address: Hex
    size: int
    pieces: tuple[MemoryPiece, ...]
    device: int | None = None


class MemoryHit(msgspec.Struct, frozen=True):
    """A place where the bytes looked for begin.

    :param region: name of the MemoryRegion that it lies in
    """

    address: Hex
    region: str | Absent
    file_offset: int | None


class MemorySearch(msgspec.Struct, frozen=True):
    """A search through the guest's RAM.

    :param pattern: what was looked for, in base 16
    :param searched: bytes looked through
    :param missing: bytes of RAM that the core does not hold
    :param complete: False if the search ended at its limit of hits
    """

    pattern: str
    searched: int
    missing: int
    complete: bool
    hits: tuple[MemoryHit, ...]


class VCpu(msgspec.Struct, frozen=True):
    """A vCPU's registers, as QEMU holds them.

    :param stale: True where the accelerator had the registers, and QEMU a copy that may be old;
        None if nobody can tell
    """

    index: int
    stale: bool | None
    halted: bool | Absent
    registers: dict[str, Hex] | Absent


class ExportSegment(msgspec.Struct, frozen=True):
    """A PT_LOAD of an exported core.

    :param address: guest-physical
    :param offset: in the exported file
    """

    address: Hex
    size: int
    offset: int


class MemoryGap(msgspec.Struct, frozen=True):
    """Guest RAM that the export does not hold."""

    address: Hex
    size: int


class MemoryExport(msgspec.Struct, frozen=True):
    """A guest core that was written.

    :param size: of the file in bytes, its holes counted
    :param written: bytes that are not in holes
    :param vmcoreinfo: where the guest's VMCOREINFO note came from: ``device``, ``search``, or why
        the file has none
    :param missing: guest RAM that the core lacks; no PT_LOAD covers it
    """

    path: str
    size: int
    written: int
    segments: tuple[ExportSegment, ...]
    missing: tuple[MemoryGap, ...]
    vcpus: tuple[VCpu, ...] | Absent
    vmcoreinfo: str | Absent


class MemoryDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/memory/1``: the guest's memory. A key that is missing was not asked for."""

    schema: str = "vringcore/memory/1"
    tool: Tool
    regions: tuple[GuestRegion, ...] | Absent | UnsetType = UNSET
    blocks: tuple[GuestBlock, ...] | Absent | UnsetType = UNSET
    read: MemoryRead | UnsetType = UNSET
    search: MemorySearch | UnsetType = UNSET
    export: MemoryExport | UnsetType = UNSET
    limits: tuple[Limitation, ...] = ()
