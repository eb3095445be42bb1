"""Members that some upstream QEMU has, so that a fork's additions can be pointed out.

Collected from the headers and sources of 5.2 to 10.2. A member that is missing here is not an
error: it is shown like any other and named in ``unknown_members``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vringcore.layout.types import Record

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
}


def unknown_members(record: Record) -> tuple[str, ...]:
    """Return the members of a struct that no upstream QEMU has, in their order.

    Empty for a struct that the table above does not list.
    """
    known = UPSTREAM_MEMBERS.get(f"{record.kind} {record.name}")
    if known is None:
        return ()
    return tuple(m.name for m in record.members if m.name is not None and m.name not in known)
