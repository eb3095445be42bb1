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

VRING_DESC = {False: ("split.vring.desc", "vring.desc"), True: ("packed.vring.desc",)}
"""Where the first of the three pointers to a ring's parts lies in it, by whether it is packed."""


class VringVirtqueue(View):
    """drivers/virtio/virtio_ring.c. Split and packed parts stand in a union since 5.0."""

    c_type = "struct vring_virtqueue"

    name = pointer("vq.name")
    index = integer("vq.index")
    num_free = integer("vq.num_free")
    broken = boolean()
    last_used_idx = integer()
    event_triggered = boolean_if_any()  # since 5.13
    split_num = integer_if_any("split.vring.num", "vring.num")
    packed_num = integer_if_any("packed.vring.num")
    avail_idx_shadow = integer_if_any("split.avail_idx_shadow", "avail_idx_shadow")
    desc_state = pointer_if_any("split.desc_state", "desc_state")
    packed_desc_state = pointer_if_any("packed.desc_state")


class DescStateSplit(View):
    c_type = "struct vring_desc_state_split"

    data = pointer()


class DescStatePacked(View):
    c_type = "struct vring_desc_state_packed"

    data = pointer()


class DescState(View):
    """What it was called before 5.0, without packed rings."""

    c_type = "struct vring_desc_state"

    data = pointer()


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
    deadline = integer_if_any()
    q = pointer_if_any()


VIEWS: tuple[type[View], ...] = (
    VringVirtqueue,
    DescStateSplit,
    DescStatePacked,
    DescState,
    VirtioScsiCmd,
    Request,
)

ENUMS = ("enum mq_rq_state", "enum req_op", "enum req_opf")
"""States and operations of a request by name; the operations' enumeration was renamed in 6.0."""
