"""The modules of a core that names no files: by the executable's file and the linker's own list.

User-mode emulators and some other writers of cores leave NT_FILE out, and with it what is mapped
where. The executable's place is told by AT_ENTRY; those of its libraries by ``link_map``, the list
that the dynamic linker keeps for debuggers (glibc, elf/link.h; System V ABI, "Dynamic Section").
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.elfcore.headers import PT_LOAD
from vringcore.elfcore.modules import Module
from vringcore.elfcore.notes import AT_BASE, AT_PHNUM, FileMapping
from vringcore.errors import CorruptDataError, VringcoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.elfcore.executable import Executable
    from vringcore.elfcore.image import ProcessImage
    from vringcore.memory.segments import SegmentSpace
    from vringcore.memory.space import AddressSpace

PT_DYNAMIC = 2
PT_INTERP = 3
DT_NULL = 0
DT_DEBUG = 21

MAX_ENTRIES = 4096
"""Of a dynamic section."""

MAX_OBJECTS = 4096
"""In the list."""

_MAX_PATH = 4096
_PAGE = 4096
_MASK = (1 << 64) - 1


class LinkedObject(msgspec.Struct, frozen=True):
    """What the dynamic linker loaded.

    :param bias: run-time minus link-time address
    :param path: "" for the program itself
    :param dynamic: address of its dynamic section
    """

    bias: int
    path: str
    dynamic: int


def linked_objects(
    space: AddressSpace[HostAddress], dynamic: int, size: int, order: str, word: int
) -> Iterator[LinkedObject]:
    """Yield the entries of ``link_map`` in its order, the program first.

    None where the program is linked statically.

    :param dynamic: run-time address of the program's dynamic section, of ``size`` bytes
    :param word: bytes of an address
    :raises CorruptDataError: if the list has no end
    :raises MemoryFault: if a part is not there
    """
    code = order + ("Q" if word == 8 else "I")
    one, five = Struct(code), Struct(f"{order}5{code[-1]}")
    debug = 0
    for tag, value in _entries(space, dynamic, size, order, word):
        if tag == DT_DEBUG:
            debug = value
    if not debug:
        return
    # struct r_debug: version, map, breakpoint, state, base of the linker.
    space.read(HostAddress(debug), five.size)
    (entry,) = one.unpack(space.read(HostAddress(debug + word), word))
    seen: set[int] = set()
    while entry:
        if entry in seen or len(seen) >= MAX_OBJECTS:
            raise CorruptDataError(
                "the list of loaded libraries has no end",
                where=f"{entry:#x}",
                seen="an entry for the second time" if entry in seen else f"{MAX_OBJECTS} entries",
            )
        seen.add(entry)
        # struct link_map: load bias, name, dynamic section, next, previous.
        bias, name, section, following, _ = five.unpack(space.read(HostAddress(entry), five.size))
        yield LinkedObject(bias, _string(space, name), section)
        entry = following


def add_modules(
    core: ProcessImage,
    executable: Executable,
    find: Callable[[str], Executable | None],
) -> None:
    """Tell a core without NT_FILE which modules it has, as far as their files are at hand.

    :param find: opens the file of a path of the core on this machine, None if there is none; it is
        closed here
    """
    order, word = core.header.byteorder, core.header.elf_class // 8
    bias = core.executable_bias(executable.header.entry)
    path = core.executable_path or executable.source.path
    modules = [_module(path, executable, bias, core.memory)]
    modules[0].is_executable = True
    section = next((p for p in executable.program_headers if p.type == PT_DYNAMIC), None)
    if section is not None:
        place = section.vaddr + bias
        try:
            for each in linked_objects(core.memory, place, section.memsz, order, word):
                name = each.path
                if not name and each.bias and each.bias == core.auxv.get(AT_BASE):
                    # The linker's own name lies among the program's constants.
                    name = _interpreter(executable)
                file = find(name) if name.startswith("/") else None
                if file is None:
                    continue
                if is_same_build(core, file, each.bias):
                    modules.append(_module(name, file, each.bias, core.memory))
                file.source.close()
        except VringcoreError:
            pass  # What the list named before its damage is known.
    core.adopt(modules)


def is_same_build(core: ProcessImage, file: Executable, bias: int) -> bool | None:
    """Tell whether a core without build-ids was of a file, by what the linker uses of it.

    The dynamic section is in memory, where a core has it; offsets and sizes of tables are in it,
    which hardly two builds have in common. And the kernel tells how many program headers the
    program has.

    :return: None if nothing tells
    """
    order, word = core.header.byteorder, core.header.elf_class // 8
    section = next((p for p in file.program_headers if p.type == PT_DYNAMIC), None)
    if section is None:
        count = core.auxv.get(AT_PHNUM)
        return None if count is None else count == file.header.phnum
    try:
        there = _entries(core.memory, section.vaddr + bias, section.filesz, order, word)
        data = file.source.read(section.offset, section.filesz)
        pair = Struct(order + ("QQ" if word == 8 else "II"))
        whole = len(data) - len(data) % pair.size
        own = pair.iter_unpack(data[:whole])
        for (tag, value), (own_tag, own_value) in zip(there, own, strict=False):
            relocated = (own_value, own_value + bias & _MASK)
            if tag != own_tag or (tag != DT_DEBUG and value not in relocated):
                return False
    except VringcoreError:
        return None
    return True


def _entries(
    space: AddressSpace[HostAddress], place: int, size: int, order: str, word: int
) -> Iterator[tuple[int, int]]:
    """Yield the tags and values of a dynamic section."""
    pair = Struct(order + ("QQ" if word == 8 else "II"))
    for index in range(min(size // pair.size, MAX_ENTRIES)):
        tag, value = pair.unpack(space.read(HostAddress(place + index * pair.size), pair.size))
        if tag == DT_NULL:
            return
        yield tag, value


def _module(path: str, file: Executable, bias: int, memory: SegmentSpace) -> Module:
    mappings = [
        FileMapping(
            (p.vaddr + bias) & -_PAGE,
            -(-(p.vaddr + bias + p.filesz) // _PAGE) * _PAGE,
            p.offset & -_PAGE,
            path,
        )
        for p in file.program_headers
        if p.type == PT_LOAD and p.filesz
    ]
    identity = file.header, file.program_headers, file.build_id, bias
    return Module(path, mappings, memory, identity)


def _interpreter(executable: Executable) -> str:
    """Return the dynamic linker that a program asks for, "" if for none."""
    named = next((p for p in executable.program_headers if p.type == PT_INTERP), None)
    if named is None:
        return ""
    data = executable.source.read(named.offset, min(named.filesz, _MAX_PATH))
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _string(space: AddressSpace[HostAddress], address: int) -> str:
    text = b""
    if address:
        for piece in space.pieces(HostAddress(address), min(_MAX_PATH, (1 << 64) - address)):
            if piece.data is None:
                break
            text += piece.data
    return text.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
