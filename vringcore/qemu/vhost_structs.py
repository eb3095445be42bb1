"""QEMU structures of vhost: back-ends in the kernel, in other processes, and vDPA devices.

As :mod:`vringcore.qemu.structs`, which has those of every device.
"""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    boolean,
    boolean_if_any,
    integer,
    integer_if_any,
    place,
    pointer,
    pointer_if_any,
)


class VHostDev(View):
    c_type = "struct vhost_dev"
    unit = ("hw/virtio/vhost.c",)

    vdev = pointer()
    started = boolean()
    vhost_ops = pointer()
    vqs = pointer()
    nvqs = integer()
    vq_index = integer()
    # Since 10.2 the first two are unions with a 128-bit form; the first 64 bits are the same.
    features = integer()
    acked_features = integer()
    protocol_features = integer()
    log_enabled = boolean()
    opaque = pointer()


class VHostOps(View):
    c_type = "struct VhostOps"
    unit = ("hw/virtio/vhost.c",)

    backend_type = integer()


class VHostVirtQueue(View):
    c_type = "struct vhost_virtqueue"
    unit = ("hw/virtio/vhost.c",)

    num = integer()
    masked_fd = integer("masked_notifier.wfd")


class Notifiers(View):
    """The eventfds of a queue: QEMU hands them to the back-end."""

    c_type = "struct VirtQueue"
    unit = ("hw/virtio/virtio.c",)

    call_fd = integer("guest_notifier.wfd")
    kick_fd = integer("host_notifier.rfd")


class VHostInflight(View):
    c_type = "struct vhost_inflight"
    unit = ("hw/virtio/vhost.c",)

    fd = integer()
    addr = pointer()
    size = integer()
    offset = integer()
    queue_size = integer()


# Devices


class VHostDevice(View):
    """A device with a ``vhost_dev``; what its structure does not have is None.

    ``handler`` is the function that hears of the character device's connection.
    """

    dev = place("dev", "vhost_dev", "parent.vhost_dev")
    chr = pointer_if_any("chardev.chr", "conf.chardev.chr", "parent_obj.conf.chardev.chr")
    handler = pointer_if_any(
        "chardev.chr_event", "conf.chardev.chr_event", "parent_obj.conf.chardev.chr_event"
    )
    inflight = pointer_if_any()


class VHostUserBlk(VHostDevice):
    c_type = "struct VHostUserBlk"
    unit = ("hw/block/vhost-user-blk.c",)


class VHostSCSICommon(VHostDevice):
    c_type = "struct VHostSCSICommon"
    unit = ("hw/scsi/vhost-scsi-common.c",)


class VHostUserFS(VHostDevice):
    c_type = "struct VHostUserFS"
    unit = ("hw/virtio/vhost-user-fs.c",)


class VHostVSockCommon(VHostDevice):
    c_type = "struct VHostVSockCommon"
    unit = ("hw/virtio/vhost-vsock-common.c",)


class VHostUserVSock(VHostDevice):
    c_type = "struct VHostUserVSock"
    unit = ("hw/virtio/vhost-user-vsock.c",)


class VHostUserBase(VHostDevice):
    """Since 8.2: the parent of vhost-user-rng, -gpio, -i2c, -input, -snd and others."""

    c_type = "struct VHostUserBase"
    unit = ("hw/virtio/vhost-user-base.c",)


class VHostUserRNG(VHostDevice):
    """Before 8.2, as the two after it."""

    c_type = "struct VHostUserRNG"
    unit = ("hw/virtio/vhost-user-rng.c",)


class VHostUserGPIO(VHostDevice):
    c_type = "struct VHostUserGPIO"
    unit = ("hw/virtio/vhost-user-gpio.c",)


class VHostUserI2C(VHostDevice):
    c_type = "struct VHostUserI2C"
    unit = ("hw/virtio/vhost-user-i2c.c",)


class VHostVdpaDevice(VHostDevice):
    c_type = "struct VhostVdpaDevice"
    unit = ("hw/virtio/vdpa-dev.c",)


DEVICES: dict[str, type[VHostDevice]] = {
    "vhost-user-blk": VHostUserBlk,
    "vhost-scsi-common": VHostSCSICommon,
    "vhost-user-fs-device": VHostUserFS,
    "vhost-user-vsock-device": VHostUserVSock,
    "vhost-vsock-common": VHostVSockCommon,
    "vhost-user-base": VHostUserBase,
    "vhost-user-rng": VHostUserRNG,
    "vhost-user-gpio-device": VHostUserGPIO,
    "vhost-user-i2c-device": VHostUserI2C,
    "vhost-vdpa-device": VHostVdpaDevice,
}
"""By QOM type, own or inherited, the structure in which a device keeps its ``vhost_dev``; of a
device with two of them the first holds."""


# Network back-ends


class VirtIONet(View):
    c_type = "struct VirtIONet"
    unit = ("hw/net/virtio-net.c",)

    nic = pointer()
    peers = integer("nic_conf.peers.queues")


class NICState(View):
    c_type = "struct NICState"
    unit = ("net/net.c", "hw/net/virtio-net.c")

    ncs = pointer()


class NetClientState(View):
    c_type = "struct NetClientState"
    unit = ("net/net.c", "hw/net/virtio-net.c")

    info = pointer()
    peer = pointer()
    name = pointer()


class NetClientInfo(View):
    c_type = "struct NetClientInfo"
    unit = ("net/net.c", "hw/net/virtio-net.c")

    type_ = integer("type")


class NetBackend(View):
    """A network back-end that can have vhost; NULL if it has not."""

    vhost_net = pointer()


class TAPState(NetBackend):
    c_type = "struct TAPState"
    unit = ("net/tap.c",)


class NetVhostUserState(NetBackend):
    c_type = "struct NetVhostUserState"
    unit = ("net/vhost-user.c",)

    chr = pointer("chr.chr")
    handler = pointer("chr.chr_event")


class VhostVDPAState(NetBackend):
    c_type = "struct VhostVDPAState"
    unit = ("net/vhost-vdpa.c",)


class VhostNet(View):
    c_type = "struct vhost_net"
    unit = ("hw/net/vhost_net.c",)

    dev = place()


NET_BACKENDS: dict[str, type[NetBackend]] = {
    "tap": TAPState,
    "vhost-user": NetVhostUserState,
    "vhost-vdpa": VhostVDPAState,
}
"""The structure of a network back-end by its type (``NetClientInfo.type``)."""


# Character devices


class Chardev(View):
    c_type = "struct Chardev"
    unit = ("chardev/char.c",)

    label = pointer()
    filename = pointer()
    be_open = integer()


class SocketChardev(View):
    c_type = "struct SocketChardev"
    unit = ("chardev/char-socket.c",)

    state = integer()
    reconnect_timer = pointer()
    reconnect_time = integer_if_any()  # seconds, until 9.1
    reconnect_time_ms = integer_if_any()  # since 9.2


# vDPA


class VhostVdpa(View):
    c_type = "struct vhost_vdpa"
    unit = ("hw/virtio/vhost-vdpa.c",)

    shadow_vqs_enabled = boolean_if_any()  # since 7.0
    shadow_vqs = pointer_if_any()  # since 7.0


class PtrArray(View):
    """glib's GPtrArray."""

    c_type = "struct _GPtrArray"
    unit = ("hw/virtio/vhost-vdpa.c",)

    pdata = pointer()
    len = integer()


class ShadowVirtqueue(View):
    c_type = "struct VhostShadowVirtqueue"
    unit = ("hw/virtio/vhost-shadow-virtqueue.c",)

    num = integer("vring.num")
    vq = pointer()
    desc_state = pointer()
    shadow_avail_idx = integer()
    last_used_idx = integer()
    num_free = integer_if_any()  # since 8.2


class ShadowState(View):
    c_type = "struct SVQDescState"
    unit = ("hw/virtio/vhost-shadow-virtqueue.c",)

    elem = pointer()
    ndescs = integer_if_any()  # since 7.1
