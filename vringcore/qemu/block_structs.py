"""The structures of the block layer: back-ends, nodes, tracked requests, coroutines, throttling.

As :mod:`vringcore.qemu.structs`, of which this is the part below a block device.
"""

from __future__ import annotations

from vringcore.view.declare import View, boolean, integer, place, pointer, text

# Block layer (block/block-backend.c, include/block/block_int-common.h)


class BlockBackend(View):
    c_type = "struct BlockBackend"
    unit = ("block/block-backend.c",)

    name = pointer()
    root = pointer()
    dev = pointer()
    last_access_time_ns = integer("stats.last_access_time_ns")
    iostatus_enabled = boolean()
    iostatus = integer()
    quiesce_counter = integer()
    queued_requests = place()
    in_flight = integer()
    throttle_group_member = place("public.throttle_group_member")


class BdrvChild(View):
    c_type = "struct BdrvChild"
    unit = ("block/block-backend.c", "block.c")

    bs = pointer()
    name = pointer()


class BlockDriverState(View):
    c_type = "struct BlockDriverState"
    unit = ("block/block-backend.c", "block.c")

    drv = pointer()
    opaque = pointer()
    aio_context = pointer()
    filename = text()
    exact_filename = text()
    node_name = text()
    in_flight = integer()
    quiesce_counter = integer()
    tracked_requests = place()
    children = place()
    file = pointer()
    backing = pointer()
    active_flush_req = boolean()
    flush_queue = place()


class BlockDriver(View):
    c_type = "struct BlockDriver"
    unit = ("block/block-backend.c", "block.c")

    format_name = pointer()


class BdrvTrackedRequest(View):
    c_type = "struct BdrvTrackedRequest"
    unit = ("block/io.c", "block.c")

    bs = pointer()
    offset = integer()
    bytes = integer()
    type_ = integer("type")
    co = pointer()
    waiting_for = pointer()


class Coroutine(View):
    c_type = "struct Coroutine"
    unit = ("util/qemu-coroutine.c",)

    entry = pointer()
    entry_arg = pointer()
    caller = pointer()
    locks_held = integer()
    ctx = pointer()
    co_queue_wakeup = place()
    co_queue_next = pointer("co_queue_next.sqe_next")


class BlkAioEmAIOCB(View):
    c_type = "struct BlkAioEmAIOCB"
    unit = ("block/block-backend.c",)

    cb = pointer("common.cb")
    opaque = pointer("common.opaque")
    blk = pointer("rwco.blk")
    offset = integer("rwco.offset")
    ret = integer("rwco.ret")
    bytes = integer()


class BlockAIOCB(View):
    """What each kind of asynchronous call begins with."""

    c_type = "struct BlockAIOCB"
    unit = ("block/block-backend.c",)

    opaque = pointer()


class ThrottleGroupMember(View):
    c_type = "struct ThrottleGroupMember"
    unit = ("block/throttle-groups.c", "block/block-backend.c")

    throttle_state = pointer()
    throttled_reads = place("throttled_reqs[0]")
    throttled_writes = place("throttled_reqs[1]")
