"""The structures of the block layer's engines: NBD, linux-aio, io_uring, thread pool, coroutines.

As :mod:`vringcore.qemu.structs`, for what is read only when a request waits there.
"""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    boolean,
    integer,
    integer_if_any,
    place,
    place_if_any,
    pointer,
    pointer_if_any,
)

# Coroutines (include/qemu/coroutine_int.h, coroutine-core.h; util/coroutine-ucontext.c)


class CoroutineUContext(View):
    # Only where QEMU was configured with the ucontext backend, the usual one on Linux.
    c_type = "typedef CoroutineUContext"
    unit = ("util/coroutine-ucontext.c",)

    stack = pointer()
    stack_size = integer()
    env = place()


class CoMutex(View):
    c_type = "struct CoMutex"
    unit = ("util/qemu-coroutine-lock.c",)

    from_push = place()
    to_pop = place()
    holder = pointer()


class CoWaitRecord(View):
    c_type = "struct CoWaitRecord"
    unit = ("util/qemu-coroutine-lock.c",)

    co = pointer()


class AioTask(View):
    """A part of a request that a format driver runs in a coroutine of its own."""

    c_type = "struct AioTask"
    unit = ("block/aio_task.c",)

    pool = pointer()


class AioTaskPool(View):
    c_type = "struct AioTaskPool"
    unit = ("block/aio_task.c",)

    main_co = pointer()
    busy_tasks = integer()
    waiting = boolean()


# Event loops (include/block/aio.h)


class AioContext(View):
    c_type = "struct AioContext"
    unit = ("util/async.c",)

    thread_pool = pointer()
    linux_aio = pointer_if_any()  # with CONFIG_LINUX_AIO
    linux_io_uring = pointer_if_any()  # with CONFIG_LINUX_IO_URING, until 10.1


# Throttling (include/qemu/throttle.h)


class ThrottleState(View):
    c_type = "struct ThrottleState"
    unit = ("util/throttle.c",)

    previous_leak = integer()


# NBD client (block/nbd.c, include/io/channel.h)


class BDRVNBDState(View):
    c_type = "struct BDRVNBDState"
    unit = ("block/nbd.c",)

    ioc = pointer()
    state = integer()
    in_flight = integer()
    free_sema = place()
    requests = place()
    send_mutex = place()
    receive_mutex = place_if_any()  # since 6.2
    connection_co = pointer_if_any()  # until 6.1: reads all replies
    saddr = pointer()
    export = pointer()
    reconnect_delay = integer()
    reconnect_delay_timer = pointer_if_any()  # since 4.2


class NBDClientRequest(View):
    c_type = "typedef NBDClientRequest"
    unit = ("block/nbd.c",)

    coroutine = pointer()
    offset = integer()
    receiving = boolean()


class SocketAddress(View):
    c_type = "struct SocketAddress"
    unit = ("block/nbd.c",)

    type_ = integer("type")
    unix_path = pointer("u.q_unix.path")
    inet_host = pointer("u.inet.host")
    inet_port = pointer("u.inet.port")


# linux-aio (block/linux-aio.c)


class LinuxAioState(View):
    c_type = "struct LinuxAioState"
    unit = ("block/linux-aio.c",)

    in_queue = integer("io_q.in_queue")
    in_flight = integer("io_q.in_flight")
    pending = place("io_q.pending")
    blocked = boolean("io_q.blocked")
    plugged = integer_if_any("io_q.plugged")  # until 8.0
    event_index = integer("event_idx")
    event_max = integer()


class LinuxAioRequest(View):
    c_type = "struct qemu_laiocb"
    unit = ("block/linux-aio.c",)

    co = pointer()
    ctx = pointer()
    ret = integer()


# io_uring (block/io_uring.c); since 10.2 it is the event loop's own (util/fdmon-io_uring.c)


class LuringState(View):
    c_type = "struct LuringState"
    unit = ("block/io_uring.c",)

    in_queue = integer("io_q.in_queue")
    in_flight = integer("io_q.in_flight")
    submit_queue = place("io_q.submit_queue")
    blocked = boolean("io_q.blocked")
    plugged = integer_if_any("io_q.plugged")  # until 8.0


class LuringRequest(View):
    c_type = "struct LuringAIOCB"
    unit = ("block/io_uring.c",)

    co = pointer()
    user_data = integer("sqeq.user_data")
    ret = integer()


class LuringCoRequest(View):
    """On the stack of the coroutine that waits, since 10.2; QEMU itself names it no more."""

    c_type = "typedef LuringRequest"
    unit = ("block/io_uring.c",)

    co = pointer()
    ret = integer()


class LoopRing(View):
    """liburing's ring of an event loop; entries from head to tail are not submitted yet."""

    c_type = "struct AioContext"
    unit = ("util/async.c",)

    sqe_head = integer_if_any("fdmon_io_uring.sq.sqe_head")
    sqe_tail = integer_if_any("fdmon_io_uring.sq.sqe_tail")


# Worker threads (util/thread-pool.c); without `Aio` at the end of their names until 9.2


class ThreadPool(View):
    c_type = "struct ThreadPool"
    unit = ("util/thread-pool.c",)

    head = place()
    cur_threads = integer()
    idle_threads = integer()


class ThreadPoolAio(ThreadPool):
    c_type = "struct ThreadPoolAio"


class ThreadPoolElement(View):
    c_type = "struct ThreadPoolElement"
    unit = ("util/thread-pool.c",)

    opaque = pointer("common.opaque")
    func = pointer()
    argument = pointer("arg")
    state = integer()


class ThreadPoolElementAio(ThreadPoolElement):
    c_type = "struct ThreadPoolElementAio"


class ThreadPoolCo(View):
    c_type = "typedef ThreadPoolCo"
    unit = ("util/thread-pool.c",)

    co = pointer()


# Requests on host files (block/file-posix.c)


class RawPosixAIOData(View):
    """What a worker thread is to do with a host file."""

    c_type = "typedef RawPosixAIOData"
    unit = ("block/file-posix.c",)

    bs = pointer()
    fildes = integer("aio_fildes")
    type_ = integer("aio_type")
    offset = integer("aio_offset")
    nbytes = integer("aio_nbytes")
    iov = pointer("io.iov")
