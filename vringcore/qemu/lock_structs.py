"""The structures of locks, and where QEMU keeps locks; as :mod:`vringcore.qemu.structs`."""

from __future__ import annotations

from vringcore.view.declare import View, integer, integer_if_any, pointer_if_any

_THREADS = ("util/qemu-thread-posix.c",)


class PthreadMutex(View):
    """glibc's; another C library's has other members (sysdeps/nptl/bits/struct_mutex.h)."""

    c_type = "typedef pthread_mutex_t"
    unit = _THREADS

    lock = integer("__data.__lock")
    owner = integer("__data.__owner")
    kind = integer("__data.__kind")


class QemuMutex(View):
    """include/qemu/thread-posix.h."""

    c_type = "struct QemuMutex"
    unit = _THREADS

    file = pointer_if_any()  # with CONFIG_DEBUG_MUTEX
    line = integer_if_any()


VARIABLES = {
    "bql": ("BQL", ("system/cpus.c", "softmmu/cpus.c")),
    "qemu_global_mutex": ("BQL", ("softmmu/cpus.c", "cpus.c")),
    "rcu_registry_lock": ("rcu_registry_lock", ("util/rcu.c",)),
    "rcu_sync_lock": ("rcu_sync_lock", ("util/rcu.c",)),
    "aio_context_list_lock": ("aio_context_list_lock", ("block/graph-lock.c",)),
    "throttle_groups_lock": ("throttle_groups_lock", ("block/throttle-groups.c",)),
}
"""Locks that are variables, with the name to show and files that define them.

The first is the BQL's name since QEMU 8.2.
"""

EVENT_LOOP = ("struct AioContext", ("util/async.c",), ("lock",))
THREAD_POOL = ("struct ThreadPool", ("util/thread-pool.c",), ("lock",))
THREAD_POOL_AIO = ("struct ThreadPoolAio", ("util/thread-pool.c",), ("lock",))
NODE = (
    "struct BlockDriverState",
    ("block/block-backend.c", "block.c"),
    ("reqs_lock", "dirty_bitmap_mutex", "bsc_modify_lock"),
)
BACKEND = (
    "struct BlockBackend",
    ("block/block-backend.c",),
    ("queued_requests_lock", "public.throttle_group_member.throttled_reqs_lock"),
)
QCOW2 = ("struct BDRVQcow2State", ("block/qcow2.c",), ("lock",))
NBD = ("struct BDRVNBDState", ("block/nbd.c",), ("requests_lock", "send_mutex", "receive_mutex"))
THROTTLE_NODE = (
    "struct ThrottleGroupMember",
    ("block/throttle-groups.c",),
    ("throttled_reqs_lock",),
)
THROTTLE_GROUP = ("struct ThrottleGroup", ("block/throttle-groups.c",), ("lock",))
VIRTIO_BLK = ("struct VirtIOBlock", ("hw/block/virtio-blk.c",), ("rq_lock",))
VIRTIO_SCSI = (
    "struct VirtIOSCSI",
    ("hw/scsi/virtio-scsi.c",),
    ("tmf_bh_lock", "ctrl_lock", "event_lock"),
)
CPU = ("struct CPUState", ("hw/core/cpu-common.c", "system/cpus.c", "cpus.c"), ("work_mutex",))
MIGRATION = (
    "struct MigrationState",
    ("migration/migration.c",),
    ("qemu_file_lock", "error_mutex"),
)
"""Structures with the files that define them and the members that are locks in some release.

What a build does not have is passed over; whether a member is a QemuMutex or a CoMutex, the build's
own types tell (``reqs_lock`` became a QemuMutex in 8.0).
"""
