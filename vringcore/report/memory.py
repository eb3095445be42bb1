"""``vringcore memory`` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent
from vringcore.report.cells import about, clean, hexadecimal, size
from vringcore.report.page import ALARM, STAND_OUT, Column, Page, column_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.memory import (
        GuestBlock,
        GuestRegion,
        MemoryDocument,
        MemoryExport,
        MemoryPiece,
        VCpu,
    )

WIDTH = 16
"""Bytes on one line."""

_SHOWN = "".join(chr(code) if 0x20 <= code < 0x7F else "." for code in range(256))


def print_regions(page: Page, document: MemoryDocument) -> None:
    """Print the memory map, then the RAM blocks."""
    page.line("Guest-physical memory", "bold")
    if isinstance(document.regions, Absent):
        page.line(f"The memory map cannot be shown: {page.notes.text(document.regions)}", ALARM)
    elif document.regions:
        _print_map(page, document.regions)
    page.line()
    page.line("RAM blocks", "bold")
    if isinstance(document.blocks, Absent):
        page.line(f"They cannot be shown: {page.notes.text(document.blocks)}", ALARM)
    elif document.blocks:
        _print_blocks(page, document.blocks)
    page.close(document.limits)


def _print_map(page: Page, regions: tuple[GuestRegion, ...]) -> None:
    page.table(
        [
            Column("start", [hexadecimal(each.start) for each in regions], numeric=True),
            Column("end", [hexadecimal(each.end) for each in regions], numeric=True),
            Column("size", [size(each.size) for each in regions], 2, numeric=True),
            column_of("kind", [each.kind for each in regions], numeric=False),
            column_of("region", [each.name for each in regions], numeric=False),
            column_of("block", [each.block for each in regions], 3, numeric=False),
            column_of("host address", [each.host for each in regions], 4),
            column_of("file offset", [_offset(each.file_offset) for each in regions], 5),
            column_of("in core", [_share(each.in_core, each.size) for each in regions], 1),
        ],
        [_style(each.in_core, each.size) for each in regions],
    )


def _print_blocks(page: Page, blocks: tuple[GuestBlock, ...]) -> None:
    page.table(
        [
            Column("block", [clean(each.id) for each in blocks]),
            Column("size", [size(each.used_length) for each in blocks], numeric=True),
            Column("at most", [size(each.max_length) for each in blocks], 3, numeric=True),
            Column("page", [size(each.page_size) for each in blocks], 4, numeric=True),
            column_of("shared", [each.shared for each in blocks], 6, numeric=False),
            column_of("host address", [each.host for each in blocks], 2),
            column_of("file offset", [_offset(each.file_offset) for each in blocks], 5),
            column_of("in core", [_share(each.in_core, each.used_length) for each in blocks], 1),
        ],
        [_style(each.in_core, each.used_length) for each in blocks],
    )


def _offset(place: int | None) -> str | None:
    return None if place is None else hexadecimal(place)


def _share(there: int | None, whole: int) -> str | None:
    if there is None:
        return None
    if there in (0, whole):
        return "all" if there else "nothing"
    return size(there)


def _style(there: int | None, whole: int) -> str:
    return STAND_OUT if there is not None and there < whole else ""


def print_read(page: Page, document: MemoryDocument, *, whole: bool) -> None:
    """Print bytes as ``hexdump -C`` does; equal lines are one ``*`` unless ``whole``."""
    assert document.read
    for piece in document.read.pieces:
        if isinstance(piece.data, Absent):
            hint = f": {clean(piece.data.hint)}" if piece.data.hint else ""
            why = clean(piece.data.reason) + hint
            page.line(f"{piece.address:016x}  {piece.size} bytes absent, {why}", ALARM)
        else:
            for line in hex_lines(piece, whole=whole):
                page.line(line)
    page.close(document.limits)


def hex_lines(piece: MemoryPiece, *, whole: bool) -> Iterator[str]:
    """Yield the lines of a piece that is there: address, sixteen bytes, and their characters."""
    assert isinstance(piece.data, str)
    data, last, folded = bytes.fromhex(piece.data), b"", False
    for at in range(0, len(data), WIDTH):
        row = data[at : at + WIDTH]
        if row == last and not whole and at + WIDTH < len(data):
            if not folded:
                yield "*"
            folded = True
            continue
        last, folded = row, False
        left, right = row[:8].hex(" "), row[8:].hex(" ")
        text = "".join(_SHOWN[byte] for byte in row)
        yield f"{piece.address + at:016x}  {left:<23}  {right:<23}  |{text}|"


def print_search(page: Page, document: MemoryDocument) -> None:
    """Print the places that were found."""
    found = document.search
    assert found
    if found.hits:
        page.table(
            [
                Column("address", [hexadecimal(hit.address) for hit in found.hits], numeric=True),
                column_of("region", [hit.region for hit in found.hits], 1, numeric=False),
                column_of("file offset", [_offset(hit.file_offset) for hit in found.hits], 2),
            ]
        )
        page.line()
    places = "place" if len(found.hits) == 1 else "places"
    page.line(f"{len(found.hits)} {places} in {about(found.searched)} of guest RAM")
    if not found.complete:
        page.remark("the search ended at its limit: there may be more (--limit)")
    page.close(document.limits)


def print_export(page: Page, document: MemoryDocument) -> None:
    """Print what was written."""
    export = document.export
    assert export
    page.line(
        f"{clean(export.path)}: {about(export.size)}, {about(export.written)} without its holes",
        "bold",
    )
    page.line()
    page.table(
        [
            Column("PT_LOAD", [hexadecimal(each.address) for each in export.segments], 0, True),
            Column("size", [size(each.size) for each in export.segments], numeric=True),
            Column("offset", [hexadecimal(each.offset) for each in export.segments], 1, True),
        ]
    )
    _print_cpus(page, export)
    page.line()
    page.line(f"VMCOREINFO: {_source(page, export)}")
    page.close(document.limits)


def _print_cpus(page: Page, export: MemoryExport) -> None:
    page.line()
    if isinstance(export.vcpus, Absent):
        page.line(f"The vCPUs cannot be read: {page.notes.text(export.vcpus)}", ALARM)
        return
    page.table(
        [
            Column("vCPU", [str(each.index) for each in export.vcpus], numeric=True),
            *(
                column_of(name, [_register(each, name) for each in export.vcpus])
                for name in ("rip", "rsp", "cr3")
            ),
            column_of("halted", [each.halted for each in export.vcpus], 2, numeric=False),
            column_of("registers", [_age(each) for each in export.vcpus], 1, numeric=False),
        ]
    )


def _register(cpu: VCpu, name: str) -> int | Absent:
    return cpu.registers if isinstance(cpu.registers, Absent) else cpu.registers[name]


def _age(cpu: VCpu) -> str:
    if cpu.stale is None:
        return "may be old"
    return "stale" if cpu.stale else "current"


def _source(page: Page, export: MemoryExport) -> str:
    if isinstance(export.vmcoreinfo, Absent):
        return page.notes.text(export.vmcoreinfo)
    told = {"device": "as the guest gave it to QEMU", "search": "found in the guest's RAM"}
    return told.get(export.vmcoreinfo, clean(export.vmcoreinfo))
