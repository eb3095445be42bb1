"""The structures that only the state of the whole block layer takes; as :mod:`.structs`.

Views that add members to those of :mod:`vringcore.qemu.block_structs`, which requests in flight
take, are subclasses of them.
"""

from __future__ import annotations

from vringcore.qemu import block_structs
from vringcore.view.declare import (
    View,
    boolean,
    boolean_if_any,
    integer,
    place,
    place_if_any,
    pointer,
)

# Back-ends and nodes (block/block-backend.c, include/block/block_int-common.h)


class BlockBackendState(block_structs.BlockBackend):
    ctx = pointer()
    on_read_error = integer()
    on_write_error = integer()
    disable_request_queuing = integer()  # a bool, of newer QEMU a count


class BlockDriverStateEdges(block_structs.BlockDriverState):
    parents = place()


class BdrvChildEdge(block_structs.BdrvChild):
    """An edge of the block graph, seen from the node below it."""

    opaque = pointer()


class BdrvTrackedRequestState(block_structs.BdrvTrackedRequest):
    serialising = boolean()
    wait_queue = place()


# Throttling (block/throttle-groups.c, include/block/throttle-groups.h, include/qemu/throttle.h)


class ThrottleGroup(View):
    c_type = "struct ThrottleGroup"
    unit = ("block/throttle-groups.c",)

    name = pointer()
    ts = place()
    head = place()
    token_reads = pointer("tokens[0]")
    token_writes = pointer("tokens[1]")
    armed_reads = boolean("any_timer_armed[0]")
    armed_writes = boolean("any_timer_armed[1]")


class ThrottleGroupMemberState(block_structs.ThrottleGroupMember):
    io_limits_disabled = integer()
    pending_reads = integer("pending_reqs[0]")
    pending_writes = integer("pending_reqs[1]")
    timer_reads = pointer("throttle_timers.timers[0]")
    timer_writes = pointer("throttle_timers.timers[1]")
    throttled_reqs_lock = place_if_any()  # until 8.2


class ThrottleConfig(View):
    c_type = "struct ThrottleConfig"
    unit = ("util/throttle.c",)

    buckets = place()
    op_size = integer()


class LeakyBucket(View):
    c_type = "struct LeakyBucket"
    unit = ("util/throttle.c",)

    avg = integer()
    max = integer()
    burst_length = integer()


class ThrottleConfigOfState(View):
    c_type = "struct ThrottleState"
    unit = ("util/throttle.c",)

    cfg = place()


# Requests parked by devices (include/hw/scsi/scsi.h)


class SCSIDeviceRequests(View):
    c_type = "struct SCSIDevice"
    unit = ("hw/scsi/scsi-bus.c",)

    requests = place()


class SCSIRequest(View):
    c_type = "struct SCSIRequest"
    unit = ("hw/scsi/scsi-bus.c",)

    retry = boolean()


# Jobs (job.c, include/qemu/job.h, include/block/blockjob.h)


class Job(View):
    c_type = "struct Job"
    unit = ("job.c",)

    id_ = pointer("id")
    driver = pointer()
    co = pointer()
    status = integer()
    pause_count = integer()
    busy = boolean()
    paused = boolean()
    cancelled = boolean()
    force_cancel = boolean_if_any()
    timer_expires = integer("sleep_timer.expire_time")


class JobDriver(View):
    c_type = "struct JobDriver"
    unit = ("job.c",)

    instance_size = integer()
    job_type = integer()


class BlockJob(View):
    c_type = "struct BlockJob"
    unit = ("blockjob.c",)

    nodes = pointer()


class GSList(View):
    """glib/gslist.h."""

    c_type = "struct _GSList"
    unit = ("blockjob.c",)

    data = pointer()
    next = pointer()
