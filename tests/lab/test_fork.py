"""A fork's QEMU: what it added is named, read and printed, by what the build itself tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.cores import cores
from tests.expr.printing import gdb_lines, our_line
from tests.expr.structures import COMMANDS_OF_FORK, QUEUES_OF_FORK
from tests.lab import fork
from tests.lab.cases import CoreCase
from tests.lab.compare import flatten
from vringcore.layout.types import Record
from vringcore.model.devices import Backend, Device
from vringcore.model.queues import Queue
from vringcore.report.queues import print_queues
from vringcore.report.text import render

MEMBERS = (
    "vring num num_default align desc avail used caches used_elems last_avail_idx"
    " last_avail_wrap_counter shadow_avail_idx shadow_avail_wrap_counter used_idx used_wrap_counter"
    " signalled_used signalled_used_valid notification queue_index inuse nr_request nr_response"
    " nr_errors error_code vector handle_output handle_aio_output vdev guest_notifier rfd wfd"
    " initialized host_notifier rfd wfd initialized host_notifier_enabled node le_next le_prev"
)
"""Every name that stands before a value in the printed VirtQueue."""

VIRTIO_BLK_S_IOERR = 1


def is_of_fork(core: CoreCase) -> bool:
    return core.case.name.endswith("7.2-fork/fork-stuck")


@pytest.fixture(scope="module", params=cores(is_of_fork))
def case(request: pytest.FixtureRequest) -> CoreCase:
    found: CoreCase = request.param
    return found


@pytest.fixture(scope="module")
def core(case: CoreCase) -> Iterator[vringcore.Core]:
    with case.open() as opened:
        yield opened


@pytest.fixture(scope="module")
def printed_by_gdb(case: CoreCase, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if not case.whole:
        return case.printed
    commands = [*(f"p {queue}" for queue in QUEUES_OF_FORK), *COMMANDS_OF_FORK]
    scratch = tmp_path_factory.mktemp("gdb")
    return gdb_lines(case.case.executable, case.path, commands, scratch)


def queues(core: vringcore.Core) -> Iterator[tuple[Device, Queue]]:
    for device in core.virtio_devices():
        assert isinstance(device.queues, tuple)
        for queue in device.queues:
            yield device, queue


def test_members_of_the_fork_have_the_values_that_gdb_finds(
    case: CoreCase, core: vringcore.Core
) -> None:
    truth = {q["address"]: q["fields"] for d in case.gdb["devices"] for q in d["queues"]}
    used = 0
    for _device, queue in queues(core):
        ours, theirs = flatten(queue.fields), truth.pop(int(queue.address))
        for name in fork.VIRTQUEUE_MEMBERS:
            assert ours[name] == theirs[name], (queue.index, name)
        used += ours["nr_request"] > 0
    assert not truth
    assert used == 10


def test_exactly_what_the_fork_added_is_unknown(core: vringcore.Core) -> None:
    inside = tuple(f"VirtIOBlock.conf.conf.{name}" for name in fork.CONF_MEMBERS)
    for device in core.virtio_devices():
        assert device.unknown_members == inside
        assert isinstance(device.backend, Backend)
        assert device.backend.unknown_members == fork.BACKEND_MEMBERS
    for _device, queue in queues(core):
        assert queue.unknown_members == fork.VIRTQUEUE_MEMBERS


def test_the_members_stand_where_the_fork_put_them(core: vringcore.Core) -> None:
    record = core.process.views.layouts.definition("struct VirtQueue")
    assert isinstance(record, Record)
    names = [member.name for member in record.members]
    at = names.index("inuse")
    assert names[at : at + 6] == ["inuse", *fork.VIRTQUEUE_MEMBERS, "vector"]


def test_the_fork_counts_as_outstanding_what_is_in_use(core: vringcore.Core) -> None:
    stuck = 0
    for device, queue in queues(core):
        fields: Any = queue.fields
        assert fields["nr_request"] - fields["nr_response"] == queue.in_use
        assert isinstance(queue.in_flight, tuple)
        assert len(queue.in_flight) == queue.in_use
        if device.id == "disk1":
            assert queue.in_use >= 1
            stuck += 1
    assert stuck == 9


@pytest.mark.parametrize("parts", [{"devices", "queues"}, {"devices", "queues", "queue-fields"}])
def test_the_text_shows_the_counters(core: vringcore.Core, parts: set[str]) -> None:
    report = core.report(parts)
    text = render(lambda page: print_queues(page, report, detailed=False), width=None, color=False)
    assert f"no upstream QEMU has: {', '.join(fork.VIRTQUEUE_MEMBERS)}" in text
    rows = [line.split() for line in text.splitlines()]
    for device, queue in queues(core):
        fields: Any = queue.fields
        values = [str(fields[name]) for name in fork.VIRTQUEUE_MEMBERS]
        assert [device.id, str(queue.index), *values, str(queue.in_use)] in rows


def test_errors_are_counted_where_reads_failed(core: vringcore.Core) -> None:
    for device, queue in queues(core):
        fields: Any = queue.fields
        failed = device.id == "disk0"
        assert (fields["nr_errors"] > 0) == failed
        assert fields["error_code"] == (VIRTIO_BLK_S_IOERR if failed else 0)


def test_the_list_of_the_fork_has_the_devices_in_order(core: vringcore.Core) -> None:
    first = f"{fork.DEVICE_LIST}.head->tqh_first"
    listed = [int(core.eval(f"{place}->vdev")) for place in (first, f"{first}->next->tqe_next")]
    by_id = [int(core.find_device(name).address) for name in ("disk0", "disk1")]
    assert listed == by_id
    assert int(core.eval(f"{first}->next->tqe_next->next->tqe_next")) == 0


@pytest.mark.parametrize("queue", QUEUES_OF_FORK)
def test_queues_print_as_gdb_prints_them(
    core: vringcore.Core, printed_by_gdb: dict[str, str], queue: str
) -> None:
    line = core.print_expression(queue)
    assert line == printed_by_gdb[f"p {queue}"]
    assert " ".join(re.findall(r"(\w+) = ", line)) == MEMBERS


@pytest.mark.parametrize("command", COMMANDS_OF_FORK)
def test_what_the_fork_added_prints_as_gdb_prints_it(
    core: vringcore.Core, printed_by_gdb: dict[str, str], command: str
) -> None:
    line = printed_by_gdb[command]
    assert not line.startswith("error:")
    assert our_line(core.process, command) == line


@pytest.mark.parametrize("lines", ["", "    unsigned int inuse;\n" * 2])
def test_a_source_that_the_fork_does_not_fit_is_refused(tmp_path: Path, lines: str) -> None:
    source = tmp_path / fork.INSERTIONS[0].file
    source.parent.mkdir(parents=True)
    source.write_text(f"struct VirtQueue {{\n{lines}}};\n")
    with pytest.raises(RuntimeError, match="expected one"):
        fork.apply(tmp_path)
