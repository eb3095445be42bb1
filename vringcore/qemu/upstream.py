"""Members that some upstream QEMU has, so that a fork's additions can be pointed out.

Collected from the headers and sources of 5.2 to 10.2. A member that is missing here is not an
error: it is shown like any other and named in ``unknown_members``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.layout.types import Record

if TYPE_CHECKING:
    from vringcore.layout.provider import Layouts
    from vringcore.layout.types import Type

UPSTREAM_MEMBERS = {
    "struct VirtQueue": frozenset(
        {
            "vring",
            "used_elems",
            "last_avail_idx",
            "last_avail_wrap_counter",
            "shadow_avail_idx",
            "shadow_avail_wrap_counter",
            "used_idx",
            "used_wrap_counter",
            "signalled_used",
            "signalled_used_valid",
            "notification",
            "queue_index",
            "inuse",
            "vector",
            "handle_output",
            "handle_aio_output",
            "vdev",
            "guest_notifier",
            "host_notifier",
            "host_notifier_enabled",
            "node",
        }
    ),
    "struct VirtIODevice": frozenset(
        {
            "parent_obj",
            "name",
            "status",
            "isr",
            "queue_sel",
            "guest_features",
            "guest_features_ex",
            "host_features",
            "host_features_ex",
            "backend_features",
            "backend_features_ex",
            "config_len",
            "config",
            "config_vector",
            "generation",
            "nvectors",
            "vq",
            "listener",
            "device_id",
            "vm_running",
            "broken",
            "use_disabled_flag",
            "disabled",
            "use_started",
            "started",
            "start_on_kick",
            "disable_legacy_check",
            "vhost_started",
            "vmstate",
            "bus_name",
            "device_endian",
            "use_guest_notifier_mask",
            "dma_as",
            "vector_queues",
            "next",
            "config_notifier",
            "device_iotlb_enabled",
            "user_feature_bits",
        }
    ),
    "struct VirtIOBlock": frozenset(
        {
            "parent_obj",
            "blk",
            "rq_lock",
            "rq",
            "bh",
            "conf",
            "sector_mask",
            "original_wce",
            "change",
            "dataplane_disabled",
            "dataplane_started",
            "dataplane",
            "ioeventfd_disabled",
            "ioeventfd_started",
            "ioeventfd_starting",
            "ioeventfd_stopping",
            "vq_aio_context",
            "host_features",
            "config_size",
            "blk_ram_registrar",
        }
    ),
    "struct VirtIOBlkConf": frozenset(
        {
            "conf",
            "iothread",
            "iothread_vq_mapping_list",
            "serial",
            "request_merging",
            "num_queues",
            "queue_size",
            "seg_max_adjust",
            "report_discard_granularity",
            "max_discard_sectors",
            "max_write_zeroes_sectors",
            "x_enable_wce_if_config_wce",
        }
    ),
    "struct BlockConf": frozenset(
        {
            "blk",
            "backend_defaults",
            "physical_block_size",
            "logical_block_size",
            "min_io_size",
            "opt_io_size",
            "bootindex",
            "discard_granularity",
            "cyls",
            "heads",
            "secs",
            "lcyls",
            "lheads",
            "lsecs",
            "wce",
            "share_rw",
            "account_invalid",
            "account_failed",
            "stats_intervals",
            "num_stats_intervals",
            "rerror",
            "werror",
        }
    ),
    "struct BlockBackend": frozenset(
        {
            "name",
            "refcnt",
            "root",
            "ctx",
            "legacy_dinfo",
            "link",
            "monitor_link",
            "public",
            "dev",
            "dev_ops",
            "dev_opaque",
            "guest_block_size",
            "root_state",
            "enable_write_cache",
            "stats",
            "on_read_error",
            "on_write_error",
            "iostatus_enabled",
            "iostatus",
            "perm",
            "shared_perm",
            "disable_perm",
            "allow_aio_context_change",
            "allow_write_beyond_eof",
            "remove_bs_notifiers",
            "insert_bs_notifiers",
            "aio_notifiers",
            "quiesce_counter",
            "queued_requests_lock",
            "queued_requests",
            "disable_request_queuing",
            "start_request_count",
            "vmsh",
            "force_allow_inactivate",
            "in_flight",
        }
    ),
    "struct BlockDriverState": frozenset(
        {
            "open_flags",
            "read_only",
            "encrypted",
            "sg",
            "probed",
            "force_share",
            "implicit",
            "drv",
            "opaque",
            "aio_context",
            "aio_notifiers",
            "walking_aio_notifiers",
            "filename",
            "backing_file",
            "auto_backing_file",
            "backing_format",
            "full_open_options",
            "exact_filename",
            "bl",
            "supported_read_flags",
            "supported_write_flags",
            "supported_zero_flags",
            "supported_truncate_flags",
            "node_name",
            "node_list",
            "bs_list",
            "monitor_list",
            "refcnt",
            "op_blockers",
            "inherits_from",
            "children",
            "backing",
            "file",
            "parents",
            "options",
            "explicit_options",
            "detect_zeroes",
            "backing_blocker",
            "total_sectors",
            "before_write_notifiers",
            "write_threshold_offset",
            "write_threshold_notifier",
            "dirty_bitmap_mutex",
            "dirty_bitmaps",
            "wr_highest_offset",
            "copy_on_read",
            "in_flight",
            "serialising_in_flight",
            "io_plugged",
            "enable_write_cache",
            "quiesce_counter",
            "recursive_quiesce_counter",
            "write_gen",
            "reqs_lock",
            "tracked_requests",
            "flush_queue",
            "active_flush_req",
            "flushed_gen",
            "never_freeze",
            "bsc_modify_lock",
            "block_status_cache",
            "wps",
        }
    ),
}

_INSIDE = {"struct VirtIOBlock": "conf", "struct VirtIOBlkConf": "conf"}
"""The member of a struct above that is itself a struct above, and is looked into."""


def unknown_members(layouts: Layouts, c_type: str) -> tuple[str, ...]:
    """Return the members of a struct that no upstream QEMU has, in their order.

    Those of a struct inside it are given by their path: ``conf.conf.retry_interval``. Empty for a
    struct that the table above does not list, or that the build does not define.
    """
    key = unknown_members, c_type
    found = layouts.derived.get(key)
    if not isinstance(found, tuple):
        found = layouts.derived[key] = _unknown_members(layouts, c_type)
    return found


def _unknown_members(layouts: Layouts, c_type: str) -> tuple[str, ...]:
    record = layouts.find_definition(c_type)
    known = UPSTREAM_MEMBERS.get(c_type)
    if known is None or not isinstance(record, Record):
        return ()
    unknown: list[str] = []
    for member in record.members:
        if member.name is None:
            continue
        if member.name not in known:
            unknown.append(member.name)
        elif member.name == _INSIDE.get(c_type):
            inner = _struct_of(layouts, member.type)
            unknown += [f"{member.name}.{name}" for name in unknown_members(layouts, inner)]
    return tuple(unknown)


def _struct_of(layouts: Layouts, type_: Type) -> str:
    """Return the key of the struct that a member is, "" if that cannot be told."""
    try:
        resolved = layouts.resolve(type_)
    except VringcoreError:
        return ""
    return f"{resolved.kind} {resolved.name}" if isinstance(resolved, Record) else ""
