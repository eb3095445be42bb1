"""The dynamic linker's list of loaded libraries, by which debuggers find them."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.view.lists import walk

if TYPE_CHECKING:
    from vringcore.qemu.process import Process

PT_DYNAMIC = 2
DT_NULL = 0
DT_DEBUG = 21

MAX_ENTRIES = 4096


def read_link_map(process: Process) -> list[str]:
    """Return the names in the list, in its order: ``_DYNAMIC``, ``r_debug``, ``link_map``.

    Empty where the program is linked statically. (glibc: elf/link.h; System V ABI, "Dynamic
    Section".)

    :raises VringcoreError: if a part of it is damaged or not there
    """
    views, module = process.views, process.core.executable
    segments = module.program_headers if module is not None else []
    dynamic = next((s for s in segments if s.type == PT_DYNAMIC), None)
    if dynamic is None:
        return []
    word = views.pointer_size
    pair = Struct(views.layouts.byteorder + ("QQ" if word == 8 else "II"))
    debug = 0
    for index in range(min(dynamic.memsz // pair.size, MAX_ENTRIES)):
        place = dynamic.vaddr + process.files.bias + index * pair.size
        tag, value = pair.unpack(views.space.read(HostAddress(place), pair.size))
        if tag == DT_DEBUG:
            debug = value
        if tag == DT_NULL:
            break
    if not debug:
        return []
    # struct r_debug: version, map, breakpoint, state, base of the linker.
    views.space.read(HostAddress(debug), 5 * word)
    first = views.pointer(debug + word)
    names = []
    for entry in walk(first, lambda a: views.pointer(a + 3 * word), what="of loaded libraries"):
        # struct link_map: load bias, name, dynamic section, next, previous.
        views.space.read(HostAddress(entry), 5 * word)
        names.append(views.string(views.pointer(entry + word)))
    return names
