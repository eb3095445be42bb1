"""The case that this library was begun for: a live migration that hangs, and gdb's numbers of it.

Six of the queues were printed by gdb; five are idle, one has two requests inside. The migration
thread's stack is as gdb gave it.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.diagnose.builders import (
    MIGRATION,
    asleep,
    backend,
    codes,
    device,
    finding,
    queue,
    report,
    thread,
    with_argument,
)
from vringcore.diagnose.engine import diagnose
from vringcore.model.devices import Device
from vringcore.model.queues import Queue
from vringcore.model.report import Report
from vringcore.model.values import Address

IDLE = {8: 2440, 0: 57785, 1: 37509, 2: 40985, 3: 27738}
"""The queues where last_avail_idx, shadow_avail_idx, used_idx and signalled_used are all this."""

STACK = (
    *("ppoll", "ppoll", "fdmon_poll_wait", "aio_poll"),
    *("bdrv_do_drained_begin", "bdrv_do_drained_begin", "bdrv_set_aio_context_ignore"),
    *("bdrv_child_try_set_aio_context", "blk_do_set_aio_context", "blk_set_aio_context"),
    *("virtio_blk_data_plane_stop", "virtio_bus_stop_ioeventfd", "virtio_vmstate_change"),
    *("vm_state_notify", "do_vm_stop", "vm_stop", "migration_completion"),
    *("migration_iteration_run", "migration_thread", "qemu_thread_start"),
)


def stuck_queue() -> Queue:
    """Return queue 4; the fork's own counters are in its fields."""
    fields = {"nr_request": 243089, "nr_response": 243087, "nr_errors": 0, "error_code": 0}
    return queue(
        4,
        avail=46481,
        used=46479,
        inuse=2,
        fields=fields,
        unknown_members=("nr_request", "nr_response", "nr_errors", "error_code"),
    )


def disk() -> Device:
    idle = (queue(index, avail=at) for index, at in IDLE.items())
    return device(*sorted((*idle, stuck_queue()), key=lambda each: each.index), vm_running=False)


def seed() -> Report:
    migration = thread(MIGRATION, "migration", *STACK)
    return report(disk(), run_state="finish-migrate", threads=(*asleep(), migration))


def test_the_verdict_is_the_one_that_the_case_had() -> None:
    verdict = diagnose(seed()).verdict
    assert verdict.state == "stuck"
    assert verdict.code == "migration-waits-for-drain"
    assert verdict.summary == (
        "The migration waits in vm_stop for the drain of disk0 (virtio-blk), whose 2 requests were"
        " given to the back-end and have not returned."
    )


def test_the_evidence_names_gdbs_numbers() -> None:
    evidence = finding(seed(), "migration-waits-for-drain").evidence
    values = {each.c_path.rpartition("->")[2]: each.value for each in evidence if each.c_path}
    assert values == {"inuse": 2, "last_avail_idx": 46481, "used_idx": 46479}
    assert evidence[0].value.startswith("bdrv_do_drained_begin < ")


def test_the_queue_that_holds_requests_is_named_with_the_forks_counters() -> None:
    found = finding(seed(), "request-not-returned")
    assert (found.device, found.queue) == (0, 4)
    values = {each.c_path.rpartition("->")[2]: each.value for each in found.evidence}
    assert values["nr_request"] - values["nr_response"] == 2


@pytest.mark.parametrize("index", sorted(IDLE))
def test_the_idle_queues_raise_nothing(index: int) -> None:
    idle = device(queue(index, avail=IDLE[index]))
    found = diagnose(report(idle, threads=asleep()))
    assert found.verdict.state == "healthy"
    assert found.findings == ()


def test_without_the_stack_the_requests_alone_are_no_proof() -> None:
    found = diagnose(report(disk(), threads=asleep()))
    assert found.verdict.state == "unknown"
    assert found.verdict.code == "request-not-returned"


def test_of_two_disks_the_arguments_name_the_one() -> None:
    """gdb shows blk=0x5640e423a180 in frame 9; another disk is drained and busy, too."""
    mine = backend(in_flight=2, quiesced=1)
    other = replace(mine, address=Address(0x777000), node="nbd1")
    disks = (
        device(stuck_queue(), backend=mine),
        device(queue(avail=8, inuse=1), index=1, backend=other),
    )
    migration = thread(MIGRATION, "migration", *STACK)
    unknown = diagnose(report(*disks, threads=(migration,)))
    assert [each for each in unknown.wait_for.edges if each.waiter.startswith("drain:")] == []
    assert finding(unknown, "migration-waits-for-drain").confidence == "medium"
    assert "for the drain of one of disk0" in unknown.verdict.summary
    told = with_argument(migration, "blk_set_aio_context", "blk", 0x5640E423A180)
    found = diagnose(report(*disks, threads=(told,)))
    assert "for the drain of disk0 (virtio-blk), node nbd0, whose 2" in found.verdict.summary


def test_a_stack_that_does_not_wait_is_no_drain() -> None:
    moving = thread(MIGRATION, "migration", "ram_save_host_page", *STACK[-2:])
    assert "migration-waits-for-drain" not in codes(report(disk(), threads=(moving,)))
