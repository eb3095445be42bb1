"""Run state, vCPUs, migrations and interrupts, as gdb and QEMU's monitor have them."""

from __future__ import annotations

from struct import unpack_from
from typing import Any

import pytest

from tests.cores import has_devices, lab_cores, was_asked
from tests.lab.around import loop_cores, truth_of
from tests.lab.cases import CoreCase
from vringcore.model.devices import Device
from vringcore.model.machine import Machine

Case = tuple[CoreCase, Machine, tuple[Device, ...], dict[str, Any]]


def read(core: CoreCase) -> tuple[Machine, tuple[Device, ...]]:
    with core.open() as opened:
        report = opened.report({"machine", "devices"})
    assert isinstance(report.machine, Machine)
    assert isinstance(report.devices, tuple)
    return report.machine, report.devices


@pytest.fixture(scope="module", params=loop_cores())
def core(request: pytest.FixtureRequest) -> CoreCase:
    found: CoreCase = request.param
    return found


def test_vcpus(core: CoreCase) -> None:
    machine, _ = read(core)
    truth = truth_of(core)["machine"]["vcpus"]
    assert machine.accelerator == "tcg"
    assert [
        {
            "index": cpu.index,
            "lwp": cpu.lwp,
            "halted": cpu.halted,
            "created": cpu.created,
            "stop": cpu.stop,
            "stopped": cpu.stopped,
            "crash_occurred": cpu.crash_occurred,
        }
        for cpu in machine.vcpus
    ] == truth
    assert {cpu.in_guest for cpu in machine.vcpus} == {None}


def plain(name: str) -> str:
    """``MIGRATION_STATUS_ACTIVE`` as QMP has it."""
    return name.removeprefix("MIGRATION_STATUS_").lower().replace("_", "-")


def test_migrations(core: CoreCase) -> None:
    machine, _ = read(core)
    truth = truth_of(core)["machine"]
    assert plain(truth["incoming"]["status"]) == "none"
    outgoing = truth["outgoing"]
    if plain(outgoing["status"]) == "none":
        assert machine.migrations == ()
        return
    (migration,) = machine.migrations
    assert migration.direction == "outgoing"
    assert migration.status == plain(outgoing["status"])
    started = outgoing["start_time"] * 1_000_000
    assert migration.started_ns == started
    assert migration.lwp == (outgoing["lwp"] if outgoing["running"] else None)
    assert migration.error == outgoing["error"]
    if outgoing["vm_old_state"] is None:
        assert migration.vm_was_running == outgoing["vm_was_running"]
    else:
        assert migration.vm_was_running is (outgoing["vm_old_state"] == "RUN_STATE_RUNNING")
    assert isinstance(machine.newest_time_ns, int)
    assert machine.newest_time_ns >= started


def test_interrupts(core: CoreCase) -> None:
    machine, devices = read(core)
    truths = {each["address"]: each for each in truth_of(core)["machine"]["interrupts"]}
    queues = {each["address"]: each["queues"] for each in core.gdb["devices"]}
    for device, ours in zip(devices, machine.interrupts, strict=True):
        truth = truths[int(device.address)]
        assert ours.device == device.index
        assert ours.isr == truth["isr"]
        if truth["pci"] is None:
            assert (ours.mode, ours.vectors) == ("mmio", ())
            continue
        pci = truth["pci"]
        (control,) = unpack_from("<H", bytes.fromhex(pci["config"]), pci["msix_cap"] + 2)
        assert ours.mode == ("msix" if pci["table"] and control & 0x8000 else "intx")
        if ours.mode == "intx":
            (command,) = unpack_from("<H", bytes.fromhex(pci["config"]), 4)
            assert ours.line_raised is bool(pci["irq_state"])
            assert ours.line_disabled is bool(command & 0x400)
            assert (ours.function_masked, ours.vectors) == (None, ())
            continue
        assert ours.config_vector == truth["config_vector"]
        assert ours.function_masked is bool(control & 0x4000)
        assert ours.function_masked is pci["msix_function_masked"]
        users: dict[int, list[str]] = {truth["config_vector"]: ["config"]}
        for number, queue in enumerate(queues[int(device.address)]):
            if queue["fields"]["vring.desc"]:
                users.setdefault(queue["fields"]["vector"], []).append(str(number))
        users.pop(0xFFFF, None)
        table, pba = bytes.fromhex(pci["table"]), bytes.fromhex(pci["pba"])
        expected = []
        for vector in sorted(users):
            low, high, data, mask = unpack_from("<4I", table, 16 * vector)
            pending = bool(pba[vector // 8] & 1 << vector % 8)
            row = (vector, high << 32 | low, data, bool(mask & 1), pending, tuple(users[vector]))
            expected.append(row)
        assert [
            (each.vector, int(each.address), each.data, each.masked, each.pending, each.used_by)
            for each in ours.vectors
        ] == expected
        assert {each.irqfd_users for each in ours.vectors} <= {0}, "there is no KVM in the lab"


def alive(core: CoreCase) -> bool:
    return bool(has_devices(core) and was_asked(core) and core.while_alive)


@pytest.mark.parametrize("asked", lab_cores(alive))
def test_the_monitor_says_the_same(asked: CoreCase) -> None:
    before, after = asked.case.qmp_before, asked.case.qmp_after
    machine, _ = read(asked)
    if after is not None and before["query-status"] == after["query-status"]:
        assert machine.run_state == before["query-status"]["status"]
        stopped = not before["query-status"]["running"]
        assert {cpu.stopped for cpu in machine.vcpus} == {stopped}
        assert [migration.status for migration in machine.migrations] == [
            said["status"] for said in [before["query-migrate"]] if "status" in said
        ]
    assert {cpu.index: cpu.lwp for cpu in machine.vcpus} == {
        said["cpu-index"]: said["thread-id"] for said in before["query-cpus-fast"]
    }
