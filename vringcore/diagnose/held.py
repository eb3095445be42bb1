"""A queue and a request in flight, each with what it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose.values import number
from vringcore.diagnose.words import duration
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.requests import InFlight, Waiting

HELD_BY_DESIGN = ("rx", "event", "control-rx", "stats", "free-page", "reporting")
"""Roles of queues whose buffers wait in the device for something to report (VirtIO 1.3, 5)."""


TURNS = ("co-mutex", "io-channel")
"""Places below that of a client, where its coroutines wait for each other and for the socket."""
BACK_PRESSURE = ("net-peer", "chardev")
"""Places where a device keeps one element, and takes no others until that has gone."""

TELLING_NS = 500_000_000
"""A lower bound of an age below it is none: QEMU noted no time since."""


class Line:
    """A queue, with its device."""

    __slots__ = ("device", "queue")

    def __init__(self, device: Device, queue: Queue) -> None:
        self.device = device
        self.queue = queue

    @property
    def key(self) -> tuple[int, int]:
        """Numbers of device and queue."""
        return self.device.index, self.queue.index

    @property
    def waits_by_design(self) -> bool:
        """Whether the driver fills it with buffers that wait until there is something to say."""
        role = self.queue.role.rstrip("0123456789")
        return role in HELD_BY_DESIGN

    def count(self, name: str) -> int | None:
        """Return one of the queue's counts by its name, None if it is not known."""
        return number(getattr(self.queue.counts, name, None))

    @property
    def in_use(self) -> int:
        """How many elements QEMU says it holds; 0 if that is not known."""
        return number(self.queue.in_use) or 0

    @property
    def is_between(self) -> bool:
        """Whether the used index in guest memory is not the one that QEMU keeps."""
        theirs = number(getattr(self.queue.guest, "used_idx", None))
        ours = number(self.queue.used_idx)
        return ours is not None and theirs is not None and ours != theirs

    @property
    def is_held_back(self) -> bool:
        """Whether the device takes no more from it until its back-end takes what it was given."""
        held = self.queue.in_flight
        found = held if isinstance(held, tuple) else ()
        serial = self.device.kind == "virtio-serial" and self.queue.role.startswith("tx")
        return (serial and self.in_use > 0) or any(
            place.place in BACK_PRESSURE for each in found for place in each.waits_in[-1:]
        )

    @property
    def is_scrambled(self) -> bool:
        """Whether what lies in guest memory for a split ring can be no ring.

        Of the flags of both sides one bit each is defined (VirtIO 1.3, 2.7.7 and 2.7.10): noise has
        others set in both nearly always. Encrypted memory looks so.
        """
        guest = self.queue.guest
        flags = (getattr(guest, "avail_flags", None), getattr(guest, "used_flags", None))
        known = [number(each) for each in flags]
        ahead, size = self.count("unseen"), number(self.queue.size)
        far = ahead is not None and size is not None and ahead > size
        return far and all(each is not None and each > 1 for each in known)

    @property
    def is_split(self) -> bool:
        """Whether its ring is known to be a split one."""
        return self.queue.ring == "split"


class Held:
    """A request in flight: with the queue it came from, or with the coroutine that carries it out.

    :ivar line: None for a request that is known by its coroutine alone, as those of virtio-scsi
    :ivar coroutine: address of that, None for one that is known by its element
    """

    __slots__ = ("coroutine", "device", "line", "request")

    def __init__(
        self, device: Device, line: Line | None, request: InFlight, coroutine: int | None = None
    ) -> None:
        self.device = device
        self.line = line
        self.request = request
        self.coroutine = coroutine

    @property
    def last(self) -> Waiting | None:
        """The innermost place where it waits, None if none was found.

        How the coroutines of an NBD client take turns to read from its socket is left aside.
        """
        places = [each for each in self.request.waits_in if each.place not in TURNS]
        return places[-1] if places else None

    @property
    def age(self) -> int | None:
        """How long it has been in flight at least, in nanoseconds."""
        age = self.request.age
        return None if age is None or isinstance(age, Absent) else age.nanoseconds

    @property
    def age_is_exact(self) -> bool:
        """Whether :attr:`age` is more than a lower bound."""
        age = self.request.age
        return age is not None and not isinstance(age, Absent) and age.exact

    @property
    def age_text(self) -> str:
        """The age in words, "" if nothing is known of it, or no more than that it is positive."""
        if self.age is None or (self.age < TELLING_NS and not self.age_is_exact):
            return ""
        return f"for {'' if self.age_is_exact else 'at least '}{duration(self.age)}"
