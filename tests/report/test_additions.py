"""Members that a fork added to VirtQueue: shown by name, counted only where they are counters."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from tests.report import samples
from tests.report.test_text import rows, text
from vringcore.model.queues import Queue
from vringcore.model.report import Report
from vringcore.report.queues import print_queues

NAMES = ("nr_request", "nr_response", "error_code")


def report_of(*queues: Queue) -> Report:
    device = samples.device(0, "disk0", "virtio-blk", queues)
    return structs.replace(samples.REPORT, devices=(device,))


def forked(index: int, **members: Any) -> Queue:
    queue = samples.queue(index, inuse=2)
    fields = {**samples.FIELDS, **members}
    return structs.replace(queue, fields=fields, unknown_members=tuple(members))


def test_a_line_per_queue_with_the_difference_of_a_pair_of_counters() -> None:
    printed = text(
        print_queues,
        report_of(
            forked(3, nr_request=289882, nr_response=289882, error_code=0),
            forked(4, nr_request=243089, nr_response=243087, error_code=5),
        ),
    )
    assert "what no upstream QEMU has: nr_request, nr_response, error_code" in printed
    assert ["disk0", "3", "289882", "289882", "0", "0"] in rows(printed)
    assert ["disk0", "4", "243089", "243087", "5", "2"] in rows(printed)
    assert "nr_request - nr_response" in printed


def test_what_could_not_be_read_is_not_counted() -> None:
    printed = text(print_queues, report_of(forked(4, nr_request=samples.LOST, nr_response=7)))
    assert ["disk0", "4", "absent[1]", "7", "-"] in rows(printed)


def test_members_that_are_no_counters_are_named_and_left_to_the_details() -> None:
    queue = forked(4, history={"last": 7}, comment="\x1b[31m")
    printed = text(print_queues, report_of(queue))
    assert "no upstream QEMU has: history, comment" in printed
    assert ["disk0", "4", "\\x1b[31m"] in rows(printed)
    assert "history.last" in text(print_queues, report_of(queue), detailed=True)


def test_an_upstream_build_has_no_such_table() -> None:
    assert "no upstream QEMU" not in text(print_queues, samples.REPORT)
