"""``--device`` and ``--queue``, and the exit codes of partial answers."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.report import samples
from vringcore.cli.ring import exit_code as ring_exit_code
from vringcore.cli.selection import exit_code, only_ring, select
from vringcore.errors import NoSuchQueueError, UsageError
from vringcore.model.devices import Device
from vringcore.model.report import Report


class SampleCore:
    """A core that is a report: what `select` asks of an open core."""

    def __init__(self, *devices: Device) -> None:
        self.devices = devices

    def report(self, parts: set[str], *, device: str | None = None) -> Report:
        assert "queues" in parts
        chosen = [each for each in self.devices if device in (None, each.id)]
        return structs.replace(samples.REPORT, devices=tuple(chosen))


CORE = SampleCore(samples.DISK, samples.NET)


def test_a_queue_is_chosen_in_every_device_that_has_it() -> None:
    report = select(CORE, {"devices", "queues"}, None, 2)  # type: ignore[arg-type]
    assert isinstance(report.devices, tuple)
    assert [(device.id, len(device.queues or ())) for device in report.devices] == [("disk0", 1)]


def test_a_queue_that_nobody_has() -> None:
    with pytest.raises(NoSuchQueueError, match="disk0 with queues 0 to 2, #1 with queues 0 to 1"):
        select(CORE, {"devices", "queues"}, None, 7)  # type: ignore[arg-type]


def test_the_ring_that_is_meant() -> None:
    one = structs.replace(samples.DISK, queues=(samples.queue(4),))
    assert only_ring(SampleCore(one), None, None) == ("0", 4)  # type: ignore[arg-type]
    assert only_ring(CORE, "disk0", 1) == ("0", 1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"disk0 \(virtio-blk\), #1 \(virtio-net\).*--device"):
        only_ring(CORE, None, 0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"disk0 with queues 0 to 2; give --queue N"):
        only_ring(CORE, "disk0", None)  # type: ignore[arg-type]


def test_exit_codes_of_partial_answers() -> None:
    whole = samples.REPORT
    no_devices = structs.replace(whole, devices=())
    no_queues = structs.replace(whole, devices=(structs.replace(samples.DISK, queues=()),))
    assert exit_code(whole, queues=True) == 0
    assert exit_code(no_devices, queues=False) == 4
    assert exit_code(structs.replace(no_devices, limits=()), queues=False) == 0
    assert exit_code(no_queues, queues=False) == 0
    assert exit_code(no_queues, queues=True) == 4


def test_exit_codes_of_rings() -> None:
    absent = samples.LOST
    lost = structs.replace(samples.SPLIT, descriptors=absent, available=absent, used=absent)
    half = structs.replace(samples.SPLIT, descriptors=absent, used=absent)
    idle = structs.replace(samples.LOST_RING.queue, ring_state="not-set-up")
    assert ring_exit_code(samples.RING) == 0
    assert ring_exit_code(samples.LOST_RING) == 4
    assert ring_exit_code(structs.replace(samples.LOST_RING, queue=idle)) == 0
    assert ring_exit_code(structs.replace(samples.RING, split=lost)) == 4
    assert ring_exit_code(structs.replace(samples.RING, split=half)) == 0
