"""The structures of event loops; as :mod:`vringcore.qemu.structs`."""

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
    pointer_if_any,
)

# Event loops (include/block/aio.h, util/aio-posix.h, util/async.c)


class EventLoopContext(View):
    c_type = "struct AioContext"
    unit = ("util/async.c",)

    aio_handlers = place()
    notify_me = integer()
    bh_list = place()
    bh_slice_list = place()
    notified = boolean()
    notifier = place()
    scheduled_coroutines = place()
    linux_aio = pointer_if_any()  # with CONFIG_LINUX_AIO
    timers = place("tlg.tl")
    external_disable_cnt = integer_if_any()  # until 8.0
    poll_max_ns = integer()
    poll_started = boolean()
    fdmon_ops = pointer()


class AioHandler(View):
    c_type = "struct AioHandler"
    unit = ("util/aio-posix.c",)

    fd = integer("pfd.fd")
    events = integer("pfd.events")
    io_read = pointer()
    io_write = pointer()
    io_poll = pointer()
    opaque = pointer()
    # Links of lists that it is in only while these are not NULL
    deleted = pointer("node_deleted.le_prev")
    polled = pointer("node_poll.le_prev")
    is_external = boolean_if_any()  # until 8.0


class QEMUBH(View):
    c_type = "struct QEMUBH"
    unit = ("util/async.c",)

    name = pointer_if_any()  # not yet in 5.2
    cb = pointer()
    opaque = pointer()
    flags = integer()


class BHListSlice(View):
    """Bottom halves that a loop took from its list, to run them; it lies on a thread's stack."""

    c_type = "struct BHListSlice"
    unit = ("util/async.c",)

    bh_list = place()


class ScheduledCoroutine(View):
    c_type = "struct Coroutine"
    unit = ("util/qemu-coroutine.c",)

    entry = pointer()


class IOThreadLoop(View):
    """include/system/iothread.h."""

    c_type = "struct IOThread"
    unit = ("iothread.c",)

    ctx = pointer()
    thread = integer("thread.thread")
    thread_id = integer()


# Timers (include/qemu/timer.h)


class QEMUTimerList(View):
    c_type = "struct QEMUTimerList"
    unit = ("util/qemu-timer.c",)

    active_timers = pointer()


class QEMUTimer(View):
    c_type = "struct QEMUTimer"
    unit = ("util/qemu-timer.c",)

    expire_time = integer()
    cb = pointer()
    opaque = pointer()
    next_ = pointer("next")


# What watches file descriptors


class QueueNotifiers(View):
    """hw/virtio/virtio.c."""

    c_type = "struct VirtQueue"
    unit = ("hw/virtio/virtio.c",)

    guest_notifier = place()
    host_notifier = place()


class ConfigNotifier(View):
    """include/hw/virtio/virtio.h."""

    c_type = "struct VirtIODevice"
    unit = ("hw/virtio/virtio.c",)

    config_notifier = place_if_any()  # since 8.0


class LinuxAioNotifier(View):
    c_type = "struct LinuxAioState"
    unit = ("block/linux-aio.c",)

    e = place()


class QIOChannelSocket(View):
    """include/io/channel-socket.h."""

    c_type = "struct QIOChannelSocket"
    unit = ("io/channel-socket.c",)

    remote_address = place("remoteAddr")
    remote_length = integer("remoteAddrLen")
    local_address = place("localAddr")
    local_length = integer("localAddrLen")
