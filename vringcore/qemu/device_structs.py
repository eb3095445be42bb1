"""QEMU structures of single device types: what a question about queues alone does not need.

As :mod:`vringcore.qemu.structs`, which has those of every device.
"""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    integer,
    integer_if_any,
    place,
    pointer,
    pointer_if_any,
)


class IOThread(View):
    c_type = "struct IOThread"
    unit = ("iothread.c",)

    ctx = pointer()
    thread_id = integer()


class VirtQueueElement(View):
    c_type = "struct VirtQueueElement"
    unit = ("hw/virtio/virtio.c",)

    index = integer()
    ndescs = integer()
    out_num = integer()
    in_num = integer()
    in_addr = pointer()
    out_addr = pointer()
    in_sg = pointer()
    out_sg = pointer()


class VirtIOBlock(View):
    c_type = "struct VirtIOBlock"
    unit = ("hw/block/virtio-blk.c",)

    blk = pointer()
    rq = pointer()
    serial = pointer("conf.serial")
    iothread = pointer("conf.iothread")
    conf_blk = pointer("conf.conf.blk")
    iothread_vq_mapping_list = pointer_if_any("conf.iothread_vq_mapping_list")  # since 9.0
    vq_aio_context = pointer_if_any()  # since 9.0; before, dataplane->ctx
    dataplane = pointer_if_any()  # until 8.2


class VirtIOSCSICommon(View):
    c_type = "struct VirtIOSCSICommon"
    unit = ("hw/scsi/virtio-scsi.c",)

    iothread = pointer("conf.iothread")
    iothread_vq_mapping_list = pointer_if_any("conf.iothread_vq_mapping_list")  # since 10.0


class VirtIOSCSI(View):
    c_type = "struct VirtIOSCSI"
    unit = ("hw/scsi/virtio-scsi.c",)

    vq_aio_context = pointer_if_any()  # since 10.0; before, one ctx for all


class VirtIOBlockDataPlane(View):
    c_type = "struct VirtIOBlockDataPlane"
    unit = ("hw/block/dataplane/virtio-blk.c",)

    iothread = pointer()
    ctx = pointer()


class VirtIOBlockReq(View):
    c_type = "struct VirtIOBlockReq"
    unit = ("hw/block/virtio-blk.c",)

    elem = place()
    index = integer("elem.index")
    ndescs = integer("elem.ndescs")
    out_num = integer("elem.out_num")
    in_num = integer("elem.in_num")
    in_sg = pointer("elem.in_sg")
    out_sg = pointer("elem.out_sg")
    sector_num = integer()
    dev = pointer()
    vq = pointer()
    cut_iov = pointer_if_any("outhdr_undo.modified_iov")  # since 5.2
    cut_length = integer_if_any("outhdr_undo.orig.iov_len")
    out = place()
    next = pointer()
    mr_next = pointer()
    start_time_ns = integer("acct.start_time_ns")
    acct_bytes = integer("acct.bytes")


class SCSIDevice(View):
    c_type = "struct SCSIDevice"
    unit = ("hw/scsi/scsi-bus.c",)

    id = integer()
    channel = integer()
    lun = integer()
    conf_blk = pointer("conf.blk")


class SCSIDiskState(View):
    c_type = "struct SCSIDiskState"
    unit = ("hw/scsi/scsi-disk.c",)

    serial = pointer()
