"""Shadow virtqueues: rings of QEMU's own between the guest's and a vDPA device's.

With them QEMU takes from the guest's ring and gives back to it itself (hw/virtio/
vhost-shadow-virtqueue.c), so its VirtQueue is no stale copy. What it passed on is noted for each
descriptor of the shadow ring in ``desc_state``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import CorruptDataError
from vringcore.model.requests import InFlight
from vringcore.model.values import Address
from vringcore.model.vhost import ShadowQueue
from vringcore.qemu.absence import attempt
from vringcore.qemu.device_structs import VirtQueueElement
from vringcore.qemu.vhost_structs import PtrArray, ShadowState, ShadowVirtqueue, VHostDev, VhostVdpa
from vringcore.qemu.virtqueues import VIRTIO_QUEUE_MAX
from vringcore.virtio.constants import MAX_QUEUE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.view.views import Views


def shadow_queues(views: Views, dev: VHostDev) -> tuple[ShadowQueue, ...]:
    """Return the shadow virtqueues of a vDPA back-end; empty if it has none.

    :raises VringcoreError: if the list of them cannot be read
    """
    return tuple(
        ShadowQueue(
            index=index,
            address=Address(svq.address_),
            num=attempt(lambda s=svq: s.num),  # type: ignore[misc]
            shadow_avail_idx=attempt(lambda s=svq: s.shadow_avail_idx),  # type: ignore[misc]
            last_used_idx=attempt(lambda s=svq: s.last_used_idx),  # type: ignore[misc]
            num_free=attempt(lambda s=svq: s.num_free),  # type: ignore[misc]
            heads=attempt(lambda s=svq: tuple(e.index for e in elements(views, s))),  # type: ignore[misc]
        )
        for index, svq in _shadow_rings(views, dev)
    )


def shadow_requests(views: Views, dev: VHostDev, index: int) -> list[InFlight]:
    """Return what QEMU passed on of a guest's queue and has not got back.

    :raises VringcoreError: if a part of it cannot be read
    """
    for number, svq in _shadow_rings(views, dev):
        if number == index:
            return [
                InFlight(
                    head=element.index,
                    source="element",
                    summary="passed on through the shadow virtqueue",
                    ndescs=element.ndescs,
                )
                for element in elements(views, svq)
            ]
    return []


def elements(views: Views, svq: ShadowVirtqueue) -> Iterator[VirtQueueElement]:
    """Yield the elements that the device has, in the order of the shadow ring's descriptors.

    :raises VringcoreError: where one cannot be read
    """
    if svq.num > MAX_QUEUE_SIZE:
        raise CorruptDataError(
            "a shadow virtqueue with an impossible size",
            where=f"VhostShadowVirtqueue.vring.num at {svq.address_:#x}",
            seen=str(svq.num),
            expected=f"at most {MAX_QUEUE_SIZE}",
        )
    if not svq.desc_state:
        return
    size = views.binding(ShadowState).type.size
    for number in range(svq.num):
        state = views.at(ShadowState, svq.desc_state + number * size)
        # Without ndescs (7.0) an element is taken out of the array when it comes back.
        if state.elem and state.ndescs != 0:
            yield views.at(VirtQueueElement, state.elem)


def _shadow_rings(views: Views, dev: VHostDev) -> Iterator[tuple[int, ShadowVirtqueue]]:
    """Yield the shadow rings with the index of the device's queue that each stands for."""
    vdpa = views.at(VhostVdpa, dev.opaque)
    if not vdpa.shadow_vqs_enabled or not vdpa.shadow_vqs:
        return
    array = views.at(PtrArray, vdpa.shadow_vqs)
    if array.len > VIRTIO_QUEUE_MAX:
        raise CorruptDataError(
            "a vDPA device with an impossible number of shadow virtqueues",
            where=f"vhost_vdpa.shadow_vqs at {array.address_:#x}",
            seen=str(array.len),
            expected=f"at most {VIRTIO_QUEUE_MAX}",
        )
    for number in range(array.len):
        address = views.pointer(array.pdata + number * views.pointer_size)
        yield dev.vq_index + number, views.at(ShadowVirtqueue, address)
