"""vhost back-ends as text, in the listing of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent
from vringcore.model.vhost import Chardev, InflightRegion
from vringcore.report.cells import clean, hexadecimal, size

if TYPE_CHECKING:
    from vringcore.model.vhost import ShadowQueue, Vhost, VhostQueue
    from vringcore.report.cells import Footnotes


def vhost_facts(vhost: Vhost, notes: Footnotes) -> list[tuple[str, str]]:
    """Return what QEMU knows of a back-end as pairs for a listing."""
    state = "started" if vhost.started is True else "not started"
    if isinstance(vhost.started, Absent):
        state = f"started {notes.text(vhost.started)}"
    facts = [
        ("vhost", f"{notes.text(vhost.backend)} at {hexadecimal(vhost.address)}, {state}"),
        ("  vq_index", notes.text(vhost.vq_index)),
        ("  nvqs", notes.text(vhost.nvqs)),
        ("  features", notes.text(vhost.features)),
        ("  acked_features", notes.text(vhost.acked_features)),
        ("  protocol_features", notes.text(vhost.protocol_features)),
        ("  log_enabled", notes.text(vhost.log_enabled)),
        ("  netdev", notes.text(vhost.netdev)),
        *_chardev(vhost.chardev, notes),
        ("  inflight region", _region(vhost.inflight, notes)),
    ]
    if isinstance(vhost.queues, Absent):
        facts.append(("  queues", notes.text(vhost.queues)))
    else:
        facts += [(f"  queue {each.index}", _files(each, notes)) for each in vhost.queues]
    if isinstance(vhost.shadow, Absent):
        facts.append(("  shadow virtqueues", notes.text(vhost.shadow)))
    else:
        facts += [(f"  shadow queue {each.index}", _shadow(each, notes)) for each in vhost.shadow]
    return facts


def _files(queue: VhostQueue, notes: Footnotes) -> str:
    files = (("kick", queue.kick_fd), ("call", queue.call_fd), ("masked", queue.masked_fd))
    return ", ".join(f"{name} fd {notes.text(number)}" for name, number in files)


def _chardev(chardev: Chardev | Absent | None, notes: Footnotes) -> list[tuple[str, str]]:
    if not isinstance(chardev, Chardev):
        return [("  chardev", notes.text(chardev))]
    label, file = notes.text(chardev.label), notes.text(chardev.file)
    return [
        ("  chardev", f"{label} ({file}) at {hexadecimal(chardev.address)}"),
        ("    connected", notes.text(chardev.connected)),
        ("    state", notes.text(chardev.state)),
        ("    reconnect", _reconnect(chardev, notes)),
        ("    handler", notes.text(chardev.handler)),
    ]


def _reconnect(chardev: Chardev, notes: Footnotes) -> str:
    after = chardev.reconnect_ms
    if after == 0:
        return "never"
    text = notes.text(after)
    if isinstance(after, int):
        text = f"after {after} ms"
    return f"{text}, timer running" if chardev.reconnect_armed is True else text


def _region(region: InflightRegion | Absent | None, notes: Footnotes) -> str:
    if not isinstance(region, InflightRegion):
        return notes.text(region)
    return (
        f"{size(region.size)} at {hexadecimal(region.address)}, fd {region.fd},"
        f" offset {region.offset}, for queues of {region.queue_size}"
    )


def _shadow(shadow: ShadowQueue, notes: Footnotes) -> str:
    heads = shadow.heads
    held = notes.text(heads) if isinstance(heads, Absent) else " ".join(map(str, heads)) or "none"
    return clean(
        f"at {hexadecimal(shadow.address)}, size {notes.text(shadow.num)}, shadow_avail_idx"
        f" {notes.text(shadow.shadow_avail_idx)}, last_used_idx"
        f" {notes.text(shadow.last_used_idx)}, heads with the device: {held}"
    )
