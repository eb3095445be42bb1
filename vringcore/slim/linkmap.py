"""The dynamic linker's list of loaded libraries, by which debuggers find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.elfcore.linkmap import PT_DYNAMIC, linked_objects

if TYPE_CHECKING:
    from vringcore.qemu.process import Process


def read_link_map(process: Process) -> list[str]:
    """Return the names in the list, in its order; empty where the program is linked statically.

    :raises VringcoreError: if a part of it is damaged or not there
    """
    views, module = process.views, process.core.executable
    segments = module.program_headers if module is not None else []
    dynamic = next((s for s in segments if s.type == PT_DYNAMIC), None)
    if dynamic is None:
        return []
    place, order = dynamic.vaddr + process.files.bias, views.layouts.byteorder
    found = linked_objects(views.space, place, dynamic.memsz, order, views.pointer_size)
    return [each.path for each in found]
