"""The queues of a process that vhost runs, each made on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent
from vringcore.qemu.absence import attempt
from vringcore.qemu.vhost import GONE
from vringcore.qemu.vhost_models import own_places
from vringcore.qemu.vhost_queues import VhostRing

if TYPE_CHECKING:
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.qom import ObjectModel
    from vringcore.qemu.vhost import Run
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.view.views import Views


class VhostRings:
    """Gives the :class:`VhostRing` of a queue."""

    def __init__(self, views: Views, objects: ObjectModel) -> None:
        self._views = views
        self._objects = objects
        self._rings: dict[int, VhostRing] = {}

    def ring(self, device: RawDevice, queue: RawQueue, run: Run) -> VhostRing:
        """Return what is known of a queue that vhost runs."""
        ring = self._rings.get(queue.view.address_)
        if ring is None:
            ring = self._rings[queue.view.address_] = VhostRing(
                self._views,
                queue,
                device.ring_rules,
                run,
                inflight_at=self._inflight(device, run),
                queues=self._shares(device, run),
            )
        return ring

    def _inflight(self, device: RawDevice, run: Run) -> int | Absent:
        """Return the address of the device's ``vhost_inflight``, 0 if it has none."""
        places = attempt(lambda: own_places(self._views, self._objects, device))
        if isinstance(places, Absent):
            return places
        return next((p.inflight for p in places if run.address in (0, p.dev)), 0)

    def _shares(self, device: RawDevice, run: Run) -> int:
        """Return among how many queues the inflight region is divided.

        They are those of the ``vhost_dev``, which is empty once its back-end is gone.
        """
        if run.owner != GONE and run.count:
            return run.count
        return len(device.queues)
