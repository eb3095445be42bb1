"""The document of ``vringcore driver``: what the guest's driver has seen, beside QEMU's view."""

from __future__ import annotations

import msgspec

from vringcore.model.report import Limitation, Tool
from vringcore.model.values import Absent, Hex


class DriverRequest(msgspec.Struct, frozen=True):
    """A request that the guest's driver has given to the device and waits for.

    :param head: its first descriptor; in a packed ring its buffer id
    :param token: what the driver knows it by (``vring_desc_state.data``), a guest-virtual address
    :param place: where it is by the ring and by QEMU: ``unseen`` (the device has not taken it),
        ``in-qemu`` (QEMU has it in flight), ``held-in-order`` (QEMU is done with it, and holds it
        back for one before it), ``completed`` (it was given back, and the driver has not read
        that), ``with-vhost`` (not given back by the back-end that runs the ring, or not
        taken), ``nowhere`` (taken, not given back, and QEMU does not know it) or ``not-known``
    :param tag: of blk-mq; None for what is no request of the block layer; if it is one and cannot
        be read, Absent with the reason
    :param operation: ``read``, ``write``, ``flush`` …
    :param state: of blk-mq: ``idle``, ``in-flight``, ``complete``
    :param sector: of 512 bytes
    :param length: bytes of data
    :param started_ns: on the guest's monotonic clock
    """

    head: int
    token: Hex
    place: str
    tag: int | Absent | None = None
    operation: str | Absent | None = None
    state: str | Absent | None = None
    sector: int | Absent | None = None
    length: int | Absent | None = None
    started_ns: int | Absent | None = None


class DriverQueue(msgspec.Struct, frozen=True):
    """A ``struct vring_virtqueue`` of the guest, and what the device side says of the same ring.

    In a packed ring indices are slots, each with a wrap counter (None for other rings), and
    ``unread`` and ``unseen`` count descriptors.

    :param device: the device's index
    :param address: guest-virtual
    :param name: the driver's name of it (``req.0``)
    :param last_used_idx: up to where the driver has read what was given back
    :param used_event: of guest memory: the completion at which the driver wants an interrupt.
        Linux keeps it at ``last_used_idx`` while it waits, and has any value there while it does
        not; None without VIRTIO_F_EVENT_IDX, and for a packed ring
    :param interrupts: whether the driver has interrupts of the queue on, as it remembers
    :param event_triggered: an interrupt came, and the driver has not turned interrupts on since
    :param used_idx: the device's index in guest memory, None for a packed ring, which has none
    :param avail_idx: what the driver has published, as it remembers
    :param last_avail_idx: what QEMU has taken
    :param qemu_used_idx: what QEMU remembers to have given back
    :param unread: given back, and the driver has not read it
    :param unseen: published, and QEMU has not taken it
    :param num_free: descriptors that the driver has left
    :param broken: the driver gave the queue up
    :param requests: what the driver waits for, by head
    """

    device: int
    device_id: str | Absent | None
    queue: int
    address: Hex
    name: str | Absent
    last_used_idx: int
    last_used_wrap_counter: bool | None
    used_event: int | Absent | None
    interrupts: bool | None
    event_triggered: bool | None
    used_idx: int | Absent | None
    avail_idx: int | None
    avail_wrap_counter: bool | None
    last_avail_idx: int | Absent
    qemu_used_idx: int | Absent
    unread: int | Absent
    unseen: int | Absent
    num_free: int
    broken: bool
    requests: tuple[DriverRequest, ...] | Absent


class DriverDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/driver/1``.

    :param direct_map: guest-virtual address at which the guest's kernel maps physical address 0
    """

    schema: str = "vringcore/driver/1"
    tool: Tool
    direct_map: Hex | Absent
    queues: tuple[DriverQueue, ...]
    limits: tuple[Limitation, ...] = ()
