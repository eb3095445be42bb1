"""Requests of a GPU (VirtIO 1.3, 5.7.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.virtio.fields import Table, named, words

if TYPE_CHECKING:
    from vringcore.virtio.fields import Header, Request

FLAG_FENCE = 1 << 0
"""VIRTIO_GPU_FLAG_FENCE: the device answers when the work is done."""

TYPES = {
    0x0100: "get-display-info",
    0x0101: "resource-create-2d",
    0x0102: "resource-unref",
    0x0103: "set-scanout",
    0x0104: "resource-flush",
    0x0105: "transfer-to-host-2d",
    0x0106: "resource-attach-backing",
    0x0107: "resource-detach-backing",
    0x0108: "get-capset-info",
    0x0109: "get-capset",
    0x010A: "get-edid",
    0x010B: "resource-assign-uuid",
    0x010C: "resource-create-blob",
    0x010D: "set-scanout-blob",
    0x0200: "ctx-create",
    0x0201: "ctx-destroy",
    0x0202: "ctx-attach-resource",
    0x0203: "ctx-detach-resource",
    0x0204: "resource-create-3d",
    0x0205: "transfer-to-host-3d",
    0x0206: "transfer-from-host-3d",
    0x0207: "submit-3d",
    0x0208: "resource-map-blob",
    0x0209: "resource-unmap-blob",
    0x0300: "update-cursor",
    0x0301: "move-cursor",
}

_HEADER = Table("type:I flags:I fence_id:Q ctx_id:I ring_idx:B _:3s", type=TYPES)

_RECT = Table("x:I y:I width:I height:I")
_BOX = Table("x:I y:I z:I w:I h:I d:I")
_POSITION = Table("scanout_id:I x:I y:I _:I")
_RESOURCE = Table("resource_id:I _:I")
_TRANSFER_3D = Table("offset:Q resource_id:I level:I stride:I layer_stride:I")
_CURSOR = Table("resource_id:I hot_x:I hot_y:I _:I")

_FIRST = {
    **dict.fromkeys((0x0103, 0x0104, 0x0105, 0x010D), ("r", _RECT)),
    **dict.fromkeys((0x0205, 0x0206), ("box", _BOX)),
    **dict.fromkeys((0x0300, 0x0301), ("pos", _POSITION)),
}
"""Commands that begin with a structure of its own: its name, and its fields."""

_BODIES = {
    0x0101: Table("resource_id:I format:I width:I height:I"),
    0x0102: _RESOURCE,
    0x0103: Table("scanout_id:I resource_id:I"),
    0x0104: Table("resource_id:I _:I"),
    0x0105: Table("offset:Q resource_id:I _:I"),
    0x0106: Table("resource_id:I nr_entries:I"),
    0x0107: _RESOURCE,
    0x0108: Table("capset_index:I _:I"),
    0x0109: Table("capset_id:I capset_version:I"),
    0x010A: Table("scanout:I _:I"),
    0x010B: _RESOURCE,
    0x010C: Table("resource_id:I blob_mem:I blob_flags:I nr_entries:I blob_id:Q size:Q"),
    0x010D: Table("scanout_id:I resource_id:I width:I height:I format:I _:I"),
    0x0200: Table("nlen:I context_init:I"),
    0x0202: _RESOURCE,
    0x0203: _RESOURCE,
    0x0204: Table(
        "resource_id:I target:I format:I bind:I width:I height:I depth:I array_size:I last_level:I"
        " nr_samples:I flags:I _:I"
    ),
    0x0205: _TRANSFER_3D,
    0x0206: _TRANSFER_3D,
    0x0207: Table("size:I _:I"),
    0x0208: Table("resource_id:I _:I offset:Q"),
    0x0209: _RESOURCE,
    0x0300: _CURSOR,
    0x0301: _CURSOR,
}


def decode(request: Request) -> Header:
    """Read a command of the control or the cursor queue, and what it is about."""
    fields: dict[str, Any] = request.take(_HEADER)
    kind = fields["type"].value if "type" in fields else None
    if kind in _FIRST and not request.short:
        name, table = _FIRST[kind]
        fields[name] = request.take(table)
    if kind in _BODIES and not request.short:
        fields |= request.take(_BODIES[kind])
    parts = [words(fields, "resource_id", "scanout_id", "ctx_id")]
    if fields.get("flags", 0) & FLAG_FENCE and "fence_id" in fields:
        parts.append(f"fence {fields['fence_id']}")
    return request.header(named(fields.get("type")), fields, " ".join(filter(None, parts)))
