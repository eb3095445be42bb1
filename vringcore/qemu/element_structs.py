"""QEMU's records of what it took from a ring, beside :mod:`vringcore.qemu.structs`."""

from __future__ import annotations

from vringcore.view.declare import View, boolean_if_any, integer, pointer


class UsedElements(View):
    """Where a queue keeps the elements that it gives back later."""

    c_type = "struct VirtQueue"
    unit = ("hw/virtio/virtio.c",)

    used_elems = pointer()


class Element(View):
    """An element that was taken from a ring, or the record of one in ``used_elems``."""

    c_type = "struct VirtQueueElement"
    unit = ("hw/virtio/virtio.c",)

    index = integer()
    len_ = integer("len")
    ndescs = integer()
    out_num = integer()
    in_num = integer()
    in_order_filled = boolean_if_any()  # 10.0 has it, 7.2 does not
    in_addr = pointer()
    out_addr = pointer()
