"""Structures of a Linux guest's own virtio and block drivers.

As :mod:`vringcore.qemu.structs`, but of the guest's kernel: the members' names are those of Linux,
the newest first.
"""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    boolean,
    boolean_if_any,
    integer,
    integer_if_any,
    pointer,
    pointer_if_any,
)

RING_ADDRESS = {
    False: ("split.queue_dma_addr", "queue_dma_addr"),
    True: ("packed.ring_dma_addr",),
}
"""Where the driver keeps the address of the ring that it gave the device, by whether it is packed.

Since 4.6. The split ring's was no part of ``split`` before 5.0.
"""

LIST = "vq.list"
"""The queue's place in its device's list, ``virtio_device.vqs``."""


class VringVirtqueue(View):
    """drivers/virtio/virtio_ring.c. Split and packed parts stand in a union since 5.0."""

    c_type = "struct vring_virtqueue"

    name = pointer("vq.name")
    vdev = pointer("vq.vdev")
    index = integer("vq.index")
    num_free = integer("vq.num_free")
    next_queue = pointer("vq.list.next")
    broken = boolean()
    last_used_idx = integer()
    event_triggered = boolean_if_any()  # since 5.13
    is_packed = boolean_if_any("packed_ring")  # since 5.0
    split_num = integer_if_any("split.vring.num", "vring.num")
    avail_idx_shadow = integer_if_any("split.avail_idx_shadow", "avail_idx_shadow")
    avail_flags_shadow = integer_if_any("split.avail_flags_shadow", "avail_flags_shadow")
    desc_state = pointer_if_any("split.desc_state", "desc_state")
    packed_num = integer_if_any("packed.vring.num")
    packed_desc_state = pointer_if_any("packed.desc_state")
    next_avail_idx = integer_if_any("packed.next_avail_idx")
    avail_wrap_counter = boolean_if_any("packed.avail_wrap_counter")
    # Until 5.18; then bit 15 of last_used_idx.
    used_wrap_counter = boolean_if_any("packed.used_wrap_counter")
    event_flags_shadow = integer_if_any("packed.event_flags_shadow")


class DescStateSplit(View):
    c_type = "struct vring_desc_state_split"

    data = pointer()


class DescStatePacked(View):
    """`num` counts the ring's descriptors that a chain takes."""

    c_type = "struct vring_desc_state_packed"

    data = pointer()
    num = integer()


class DescState(View):
    """What it was called before 5.0, without packed rings."""

    c_type = "struct vring_desc_state"

    data = pointer()


class ListHead(View):
    c_type = "struct list_head"

    next = pointer()
    prev = pointer()


class VirtioScsiCmd(View):
    """drivers/scsi/virtio_scsi.c: of a command, not of task management, `sc` is set."""

    c_type = "struct virtio_scsi_cmd"

    sc = pointer()


class Request(View):
    """include/linux/blk-mq.h: what blk-mq keeps of a request; its driver's own part follows it."""

    c_type = "struct request"

    tag = integer()
    cmd_flags = integer()
    sector = integer("__sector")
    data_len = integer("__data_len")
    state = integer_if_any()
    start_time_ns = integer_if_any()
    q = pointer()


VIEWS: tuple[type[View], ...] = (
    VringVirtqueue,
    DescStateSplit,
    DescStatePacked,
    DescState,
    ListHead,
    VirtioScsiCmd,
    Request,
)

ENUMS = ("enum mq_rq_state", "enum req_op", "enum req_opf")
"""States and operations of a request by name; the operations' enumeration was renamed in 6.0."""
