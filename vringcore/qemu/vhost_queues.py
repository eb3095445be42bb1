"""A queue whose ring vhost runs: what of it QEMU's copy tells, and what shared memory does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.model.queues import Counts, InflightRecord, SplitGuest
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import CORRUPT, absence_of, attempt
from vringcore.qemu.packed import packed_ring
from vringcore.qemu.vhost import SHADOW
from vringcore.qemu.vhost_models import inflight_region
from vringcore.qemu.virtqueues import RawQueue, RingRules, both, split_ring
from vringcore.virtio import inflight
from vringcore.virtio.counts import outstanding
from vringcore.virtio.outstanding import candidates, packed_outstanding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.queues import PackedGuest, Queue
    from vringcore.model.requests import InFlight
    from vringcore.qemu.vhost import Run
    from vringcore.view.views import Views
    from vringcore.virtio.inflight import Record

STALE = (
    "last_avail_idx",
    "shadow_avail_idx",
    "used_idx",
    "signalled_used",
    "signalled_used_valid",
    "notification",
    "in_use",
)
"""The attributes of a queue that QEMU does not move while vhost runs the ring."""

STALE_WRAPS = ("last_avail_wrap_counter", "used_wrap_counter")
"""Those that a packed ring has in addition."""

RUN_BY_VHOST = Absent(
    "run-by-vhost",
    None,
    "the back-end that runs the ring keeps this to itself; QEMU's copy is of its last stop",
)


class VhostRing:
    """A queue that vhost runs.

    :ivar raw: the VirtQueue
    :ivar rules: what the negotiated features say of its ring
    :ivar run: the queues among which it is
    :ivar owner: who runs it, as in the model's ``ring_owner``
    :ivar index: its index
    :ivar record: what the back-end noted of it; None where it has no region for that
    :ivar limits: what could not be told of it

    :param inflight_at: the address of the device's ``vhost_inflight``, 0 if there is none
    :param queues: how many queues the region is divided among
    """

    def __init__(
        self,
        views: Views,
        raw: RawQueue,
        rules: RingRules | Absent,
        run: Run,
        *,
        inflight_at: int | Absent,
        queues: int,
    ) -> None:
        self._views = views
        self.raw = raw
        self.rules = rules
        self.run = run
        self.owner = run.owner
        self.index = raw.index
        self.limits: list[Limitation] = []
        self._region = inflight_region(views, inflight_at)
        self._queues = queues
        self.record = self._read_record()

    @property
    def is_stale(self) -> bool:
        """Whether QEMU's indices say nothing about now; with shadow virtqueues it moves them."""
        return self.owner != SHADOW

    def described(self, model: Queue) -> Queue:
        """Return the model of the queue with what is stale, and what the back-end noted."""
        if not self.is_stale:
            return model
        wraps = STALE_WRAPS if model.ring == "packed" else ()
        noted: InflightRecord | Absent | UnsetType = UNSET
        if isinstance(self.record, Absent):
            noted = self.record
        elif self.record is not None:
            noted = self._noted(self.record)
        return replace(model, stale=STALE + wraps, inflight_record=noted)

    def counts(
        self,
        model: Counts,
        guest: SplitGuest | PackedGuest | Absent,
        in_flight: Sequence[InFlight] | None,
    ) -> Counts:
        """Return the counts without those that QEMU's copy would give.

        :param model: the counts as QEMU's copy has them
        :param in_flight: the requests that were found; None if they were not looked for
        """
        if not self.is_stale:
            return model
        whole = self._outstanding(guest)
        taken: int | Absent = RUN_BY_VHOST
        if isinstance(self.record, Absent):
            taken = self.record
        elif self.record is not None:
            taken = self._taken(self.record)
        unseen = both(whole, taken, lambda a, b: a - b)
        if isinstance(unseen, int) and unseen < 0:
            unseen = Absent(CORRUPT, None, "the back-end notes more than is outstanding")
        unidentified = None
        if in_flight is not None and isinstance(taken, int):
            unidentified = max(taken - sum(each.ndescs for each in in_flight), 0)
        past = model.past_used_event
        return Counts(
            unseen=taken if isinstance(taken, Absent) else unseen,
            popped=taken,
            in_use=RUN_BY_VHOST,
            unidentified=unidentified,
            leaked=RUN_BY_VHOST,
            # Of a split ring both its indices are in guest memory.
            past_used_event=past if isinstance(guest, SplitGuest) or past is None else RUN_BY_VHOST,
            outstanding=whole,
        )

    def candidates(self) -> list[int]:
        """Return the heads of a split ring that may be outstanding, by the ring alone.

        :raises VringcoreError: if it cannot be read
        """
        assert not isinstance(self.rules, Absent)
        ring = split_ring(self._views, self.raw, self.rules)
        return candidates(
            ring.available(), ring.used(), ring.available_header()[1], ring.used_header()[1]
        )

    def count(self) -> int:
        """Return how many chains of a split ring are outstanding; errors as :meth:`candidates`."""
        assert not isinstance(self.rules, Absent)
        ring = split_ring(self._views, self.raw, self.rules)
        return outstanding(ring.available_header()[1], ring.used_header()[1])

    def _outstanding(self, guest: SplitGuest | PackedGuest | Absent) -> int | Absent:
        if isinstance(guest, Absent):
            return guest
        if isinstance(guest, SplitGuest):
            return both(guest.avail_idx, guest.used_idx, outstanding)
        if self.raw.place.missing is not None:
            return self.raw.place.missing
        used = None if self.record is None or isinstance(self.record, Absent) else self.record.used
        try:
            span = packed_outstanding(packed_ring(self._views, self.raw).descriptors(), used)
        except VringcoreError as error:
            return absence_of(error)
        if span.exact:
            return span.most
        hint = (
            f"at most {span.most} descriptors: how many the last used chain had is not in the ring"
        )
        return Absent("not-told", None, hint)

    def _taken(self, record: Record) -> int | Absent:
        """Return how many chains the back-end has, if its record has room for all of them."""
        if not record.version:
            return RUN_BY_VHOST
        if record.used is not None:
            # Descriptors are what is outstanding in a packed ring.
            return sum(len(each.descriptors) for each in record.taken)
        heads = attempt(self.candidates)
        if isinstance(heads, Absent):
            return heads
        if any(head >= record.desc_num for head in heads):
            return Absent(
                "record-too-small", None, f"the back-end's record has {record.desc_num} heads"
            )
        return len(record.taken)

    def _noted(self, record: Record) -> InflightRecord:
        return InflightRecord(
            address=Address(self._part()[0]),
            version=record.version,
            desc_num=record.desc_num,
            used_idx=record.used_idx,
            last_batch_head=record.last_batch_head,
            heads=tuple(each.head for each in record.taken),
            given_back=record.given_back,
        )

    def _part(self) -> tuple[HostAddress, int]:
        """Return where the queue's part of the region begins, and its size in bytes."""
        region = self._region
        assert not isinstance(region, Absent)
        assert region is not None
        size = region.size // max(self._queues, 1)
        return HostAddress(region.address + (self.raw.index - self.run.first) * size), size

    def _read_record(self) -> Record | Absent | None:
        if not self.is_stale or self._region is None:
            return None
        if isinstance(self._region, Absent):
            return self._region
        if isinstance(self.rules, Absent):
            return self.rules
        if self.raw.place.missing is not None:
            return self.raw.place.missing
        try:
            record = self._read(self.rules)
        except VringcoreError as error:
            return absence_of(error)
        if record.remark:
            what = f"what the back-end noted last of queue {self.raw.index}"
            self.limits.append(Limitation(what, record.remark))
        return record

    def _read(self, rules: RingRules) -> Record:
        address, size = self._part()
        big = self._views.layouts.big_endian
        space = self._views.space
        if rules.packed:
            ring = packed_ring(self._views, self.raw)
            return inflight.read_packed(space, address, size, ring, big_endian=big)
        used_idx = split_ring(self._views, self.raw, rules).used_header()[1]
        return inflight.read_split(space, address, size, used_idx, big_endian=big)
