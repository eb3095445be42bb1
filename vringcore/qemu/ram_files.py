"""Guest RAM that a core left out, read from the file that backs it.

QEMU maps RAM of ``memory-backend-file,share=on`` from a file that everybody sees, and the default
coredump_filter leaves such memory out. The file may be there long after the core was taken, with
what the guest last wrote. Its contents carry no version, so whatever comes from it is said.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vringcore.debuginfo.find import in_sysroot
from vringcore.elfcore.headers import ELF_MAGIC
from vringcore.errors import FileError, UsageError
from vringcore.memory.files import FileSource
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.overlay import FilePages
from vringcore.memory.space import Coverage
from vringcore.model.report import Limitation
from vringcore.qemu.ramblocks import ram_blocks
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.elfcore.image import ProcessImage
    from vringcore.elfcore.modules import Module
    from vringcore.memory.overlay import OverlaySpace
    from vringcore.options import Options
    from vringcore.qemu.structs import RAMBlock
    from vringcore.view.views import Views

MIN_SIZE = 1 << 20
"""Smaller files are never taken for RAM on a core's word alone."""

MAX_LISTED = 8

RAM_DIRECTORIES = ("/dev/shm/", "/dev/hugepages", "/var/lib/libvirt/qemu/ram/")  # noqa: S108
"""Where a file is guest RAM and nothing else. A core can be forged: one that names any other file
of this machine must not bring its contents into an answer, so there the user says that it may."""


class LostBlock:
    """A RAMBlock of which the core lacks bytes.

    :ivar name: as QEMU calls it: ``pc.ram``, ``ram0``, ``/objects/ram0``
    :ivar held: bytes of it in the core
    :ivar module: the file that the core's NT_FILE names there, None if it names none
    """

    def __init__(self, block: RAMBlock, held: int, core: ProcessImage) -> None:
        self.name = block.idstr
        self.start = int(block.host)
        self.size = block.used_length
        self.held = held
        self.module: Module | None = core.module_at(self.start)

    @property
    def extents(self) -> list[tuple[int, int, int]]:
        """Where the file lies in memory: start, end, and file offset of the start."""
        start, end = self.start, self.start + self.size
        if self.module is None:
            return [(start, end, 0)]
        return [
            (max(m.start, start), min(m.end, end), m.file_offset + max(0, start - m.start))
            for m in self.module.mappings
            if m.start < end and start < m.end
        ]

    @property
    def file_size(self) -> int:
        """The size that the file must have for all that was mapped of it to be there."""
        if self.module is None:
            return self.size
        return max(m.file_offset + m.end - m.start for m in self.module.mappings)

    def is_called(self, name: str) -> bool:
        """Tell whether a user means this block: by its name, or the last part of it."""
        return bool(name) and name in (self.name, self.name.rpartition("/")[2])

    def pages(self, source: FileSource) -> Iterator[FilePages]:
        for start, end, offset in self.extents:
            yield FilePages(start, end, offset, source, _not_dumped)


def lay_under(
    core: ProcessImage, views: Views, space: OverlaySpace, options: Options
) -> tuple[dict[str, FileSource], list[Limitation]]:
    """Lay the files of guest RAM under a core's memory; return them by block, and what to say.

    Files that the user gave (``--ram-file``) come first; then, for a block of which the core has
    nothing, the file that NT_FILE names, below the sysroot if there is one, otherwise in one of
    :data:`RAM_DIRECTORIES`, or of that name beside the core. Each must have the size that was
    mapped.

    :raises FileError: if a file that was given cannot be read
    :raises UsageError: if it is no block's, or may be that of several
    """
    coverage = Coverage(space)
    blocks, _error = collect(ram_blocks(views))
    lost = [
        LostBlock(block, held, core)
        for block in blocks
        if (held := coverage.total(block.host, block.used_length)) < block.used_length
    ]
    sources: dict[str, FileSource] = {}
    limits: list[Limitation] = []
    try:
        for given in options.ram_files:
            block, source = _given(given, lost)
            lost.remove(block)
            sources[block.name] = source
            core.shared += block.pages(source)
            limits.append(told(block.name, source.path))
        for block in lost:
            found = _found(block, core, options, limits) if not block.held else None
            if found is not None:
                sources[block.name] = found
                core.shared += block.pages(found)
                limits.append(told(block.name, found.path))
    except BaseException:
        for source in sources.values():
            source.close()
        raise
    space.lay(core.shared)
    return sources, limits


def told(name: str, path: str) -> Limitation:
    """Return what a report says of RAM that was read from a file."""
    return Limitation(
        f"guest RAM {name} is not in the core, and read from {path}",
        "which may have changed after the core was taken: the guest, or a VM started since, may"
        " have written to it",
        "compare QEMU's indices with those in the rings; for the next core: coredump_filter 0x7f",
    )


def _given(text: str, lost: list[LostBlock]) -> tuple[LostBlock, FileSource]:
    name, equals, path = text.partition("=")
    named = [block for block in lost if block.is_called(name)] if equals else []
    source = FileSource.open(path if named else text, what="RAM file")
    fitting = [b for b in named or lost if _fits(b, source)]
    if len(fitting) > 1:
        fitting = [b for b in fitting if b.module and _same_name(b.module, source.path)] or fitting
    if len(fitting) == 1:
        return fitting[0], source
    source.close()
    sizes = ", ".join(f"{b.name} of {b.file_size} bytes" for b in (named or lost)[:MAX_LISTED])
    if fitting:
        raise UsageError(
            "the RAM file can be that of several blocks",
            where=source.path,
            seen=", ".join(b.name for b in fitting),
            hint=f"say which: --ram-file {fitting[0].name}={source.path}",
        )
    raise FileError(
        "the RAM file is none of the guest RAM that the core lacks",
        where=source.path,
        seen=f"{source.size} bytes",
        expected=sizes or "no file: the core lacks nothing of guest RAM",
        hint="copy the file whole, its holes kept" if sizes else "leave --ram-file out",
    )


def _fits(block: LostBlock, source: FileSource) -> bool:
    """Tell whether a file that was given can back a block: where NT_FILE tells, it may go on."""
    if block.module is None:
        return source.size == block.size
    return source.size >= block.file_size


def _same_name(module: Module, path: str) -> bool:
    return os.path.basename(path) == module.path.rpartition("/")[2]  # noqa: PTH119


def _found(
    block: LostBlock, core: ProcessImage, options: Options, limits: list[Limitation]
) -> FileSource | None:
    """Return the file that the core names for a block, None if it is not there or another one."""
    module = block.module
    if module is None or module.deleted or block.size < MIN_SIZE:
        return None
    for path in _places(module.path, core.path, options.sysroot):
        if not os.path.isfile(path):  # noqa: PTH113
            continue
        if path == module.path and not path.startswith(RAM_DIRECTORIES):
            limits.append(_not_taken(block, path))
            continue
        try:
            source = FileSource.open(path, what="RAM file")
        except FileError as error:
            limits.append(_refused(block, path, str(error)))
            continue
        if source.size == block.file_size and source.read(0, len(ELF_MAGIC)) != ELF_MAGIC:
            return source
        source.close()
        why = f"it has {source.size} bytes, and {block.file_size} were mapped"
        limits.append(_refused(block, path, why))
    return None


def _places(path: str, core_path: str, sysroot: str | None) -> Iterator[str]:
    name = path.rpartition("/")[2]
    if not path.startswith("/") or path.startswith("//") or name in ("", ".", ".."):
        return
    found = in_sysroot(path, sysroot)
    if found:
        yield found
    yield os.path.join(os.path.dirname(core_path), name)  # noqa: PTH118, PTH120


def _not_taken(block: LostBlock, path: str) -> Limitation:
    return Limitation(
        f"guest RAM {block.name} is not in the core, and {path}, which backed it, was not read",
        "a file outside of " + ", ".join(RAM_DIRECTORIES) + " is not read on a core's word alone",
        f"if it still holds that VM's memory: --ram-file {block.name}={path}",
    )


def _refused(block: LostBlock, path: str, why: str) -> Limitation:
    return Limitation(
        f"guest RAM {block.name} is not in the core, and {path} is not the file that backed it",
        why,
        f"give a copy of that time with --ram-file {block.name}=PATH",
    )


def _not_dumped(address: int, size: int, _offset: int) -> Gap:
    return Gap(GapKind.NOT_DUMPED, address, size)
