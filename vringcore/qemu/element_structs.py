"""QEMU's records of what it took from a ring, beside :mod:`vringcore.qemu.structs`."""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    boolean,
    boolean_if_any,
    integer,
    integer_if_any,
    place,
    place_if_any,
    pointer,
)


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


# SCSI (include/hw/virtio/virtio-scsi.h, include/hw/scsi/scsi.h)


class VirtIOSCSIReq(View):
    c_type = "struct VirtIOSCSIReq"
    unit = ("hw/scsi/virtio-scsi.c",)

    elem = place()
    dev = pointer()
    vq = pointer()
    sreq = pointer()


class VirtIOSCSIManagement(View):
    c_type = "struct VirtIOSCSI"
    unit = ("hw/scsi/virtio-scsi.c",)

    tmf_bh_list = place_if_any()  # since 7.2.x, until 9.2


class VirtIOSCSICancelNotifier(View):
    """What waits in a request for its end: a task management request that cancels it."""

    c_type = "typedef VirtIOSCSICancelNotifier"
    unit = ("hw/scsi/virtio-scsi.c",)

    tmf_req = pointer()


class Notifier(View):
    c_type = "struct Notifier"
    unit = ("hw/scsi/virtio-scsi.c",)

    notify = pointer()


class SCSIRequests(View):
    """The requests that a SCSI device has been given and has not ended."""

    c_type = "struct SCSIDevice"
    unit = ("hw/scsi/scsi-bus.c",)

    requests = place()
    conf_blk = pointer("conf.blk")


class SCSIRequest(View):
    c_type = "struct SCSIRequest"
    unit = ("hw/scsi/scsi-bus.c",)

    dev = pointer()
    refcount = integer()
    tag = integer()
    lun = integer()
    status = integer()
    host_status = integer_if_any()  # since 6.0
    hba_private = pointer()
    residual = integer("residual", "resid")  # resid until 5.2
    cmd_buf = place("cmd.buf")
    cmd_len = integer("cmd.len")
    cmd_xfer = integer("cmd.xfer")
    cmd_lba = integer("cmd.lba")
    cmd_mode = integer("cmd.mode")
    cancel_notifiers = place()
    enqueued = boolean()
    io_canceled = boolean()
    retry = boolean()
    dma_started = boolean()
    aiocb = pointer()


class SCSIDiskReq(View):
    """A request of a SCSI disk; its SCSIRequest comes first."""

    c_type = "struct SCSIDiskReq"
    unit = ("hw/scsi/scsi-disk.c",)

    start_time_ns = integer("acct.start_time_ns")


# Network (include/hw/virtio/virtio-net.h)


class VirtIONet(View):
    c_type = "struct VirtIONet"
    unit = ("hw/net/virtio-net.c",)

    vqs = pointer()
    max_queue_pairs = integer("max_queue_pairs", "max_queues")  # max_queues until 6.1


class VirtIONetQueue(View):
    c_type = "struct VirtIONetQueue"
    unit = ("hw/net/virtio-net.c",)

    tx_vq = pointer()
    tx_waiting = integer()
    async_elem = pointer("async_tx.elem")


# Console (include/hw/virtio/virtio-serial.h)


class VirtIOSerial(View):
    c_type = "struct VirtIOSerial"
    unit = ("hw/char/virtio-serial-bus.c",)

    ports = place()


class VirtIOSerialPort(View):
    c_type = "struct VirtIOSerialPort"
    unit = ("hw/char/virtio-serial-bus.c",)

    ovq = pointer()
    name = pointer()
    id_ = integer("id")
    elem = pointer()
    iov_idx = integer()
    iov_offset = integer()
    throttled = boolean()
    guest_connected = boolean()
    host_connected = boolean()


# Balloon (include/hw/virtio/virtio-balloon.h)


class VirtIOBalloon(View):
    c_type = "struct VirtIOBalloon"
    unit = ("hw/virtio/virtio-balloon.c",)

    svq = pointer()
    stats_vq_elem = pointer()


# 9P (hw/9pfs/virtio-9p.h, hw/9pfs/9p.h)


class V9fsVirtioState(View):
    c_type = "struct V9fsVirtioState"
    unit = ("hw/9pfs/virtio-9p-device.c",)

    vq = pointer()
    elems = place()
    pdus = place("state.pdus")


class V9fsPDU(View):
    c_type = "struct V9fsPDU"
    unit = ("hw/9pfs/virtio-9p-device.c",)

    size = integer()
    tag = integer()
    id_ = integer("id")
    cancelled = integer()


# GPU (include/hw/virtio/virtio-gpu.h)


class VirtIOGPU(View):
    c_type = "struct VirtIOGPU"
    unit = ("hw/display/virtio-gpu.c",)

    cmdq = place()
    fenceq = place()


class GpuCommand(View):
    c_type = "struct virtio_gpu_ctrl_command"
    unit = ("hw/display/virtio-gpu.c",)

    elem = place()
    vq = pointer()
    error = integer()
    finished = boolean()
    fence_id = integer("cmd_hdr.fence_id")


# Crypto (include/hw/virtio/virtio-crypto.h, include/system/cryptodev.h)


class VirtIOCrypto(View):
    c_type = "struct VirtIOCrypto"
    unit = ("hw/virtio/virtio-crypto.c",)

    cryptodev = pointer()


class CryptoDevBackend(View):
    c_type = "struct CryptoDevBackend"
    unit = ("backends/cryptodev.c",)

    opinfos = place_if_any()  # since 8.0: what a limit holds back


class VirtIOCryptoReq(View):
    c_type = "struct VirtIOCryptoReq"
    unit = ("hw/virtio/virtio-crypto.c",)

    elem = place()
    vq = pointer()
    vcrypto = pointer()
    op_info = place()
    op_code = integer("op_info.op_code")
    session_id = integer("op_info.session_id")


# Sound (include/hw/audio/virtio-snd.h, since 8.2)


class VirtIOSound(View):
    c_type = "struct VirtIOSound"
    unit = ("hw/audio/virtio-snd.c",)

    pcm = pointer()
    streams = integer("snd_conf.streams")
    cmdq = place()
    invalid = place()


class SoundCommand(View):
    c_type = "struct virtio_snd_ctrl_command"
    unit = ("hw/audio/virtio-snd.c",)

    elem = pointer()
    vq = pointer()


class VirtIOSoundPCM(View):
    c_type = "struct VirtIOSoundPCM"
    unit = ("hw/audio/virtio-snd.c",)

    streams = pointer()


class VirtIOSoundPCMStream(View):
    c_type = "struct VirtIOSoundPCMStream"
    unit = ("hw/audio/virtio-snd.c",)

    id_ = integer("id")
    active = boolean()
    queue = place()


class VirtIOSoundPCMBuffer(View):
    c_type = "struct VirtIOSoundPCMBuffer"
    unit = ("hw/audio/virtio-snd.c",)

    elem = pointer()
    vq = pointer()
    size = integer()
    offset = integer()
    populated = boolean()


# Persistent memory (hw/virtio/virtio-pmem.c)


class VirtIOPMEM(View):
    c_type = "struct VirtIOPMEM"
    unit = ("hw/virtio/virtio-pmem.c",)

    rq_vq = pointer()


class VirtIOPMEMRequest(View):
    c_type = "typedef VirtIODeviceRequest"
    unit = ("hw/virtio/virtio-pmem.c",)

    elem = place()
    fd = integer()
    vdev = pointer()
