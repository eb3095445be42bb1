"""The structures that lead to coroutines and to nothing else; as :mod:`.structs`."""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    integer,
    place,
    place_if_any,
    pointer,
    pointer_if_any,
)


class QIOChannel(View):
    """include/io/channel.h."""

    c_type = "struct QIOChannel"
    unit = ("io/channel.c",)

    read_coroutine = pointer()
    write_coroutine = pointer()


class MigrationIncomingState(View):
    """migration/migration.h."""

    c_type = "struct MigrationIncomingState"
    unit = ("migration/migration.c",)

    loadvm_co = pointer_if_any("loadvm_co", "migration_incoming_co")  # its first name since 8.1


class BDRVQcow2State(View):
    """block/qcow2.h."""

    c_type = "struct BDRVQcow2State"
    unit = ("block/qcow2.c",)

    lock = place()
    thread_task_queue = place()
    cluster_allocs = place()


class QCowL2Meta(View):
    """block/qcow2.h: clusters that a write is allocating."""

    c_type = "struct QCowL2Meta"
    unit = ("block/qcow2.c",)

    offset = integer()
    nb_clusters = integer()
    dependent_requests = place()


class NodeLocks(View):
    """include/block/block_int-common.h; of which ``reqs_lock`` is a CoMutex until 8.0."""

    c_type = "struct BlockDriverState"
    unit = ("block/block-backend.c", "block.c")

    opaque = pointer()
    reqs_lock = place()
    bsc_modify_lock = place_if_any()  # since 6.2
