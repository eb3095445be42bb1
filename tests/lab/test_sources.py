"""The sources of truth must agree with each other before anything is compared with them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.cases import Case, CoreCase, iter_cases, iter_cores
from tests.lab.compare import held_back

pytestmark = pytest.mark.lab

_READ, _WRITE, _FLUSH, _DISCARD = 0, 1, 4, 11
_TYPES = {_READ: "read", _WRITE: "write", _FLUSH: "flush", _DISCARD: "trim"}
_HELD_EXACTLY = (
    *("stuck", "stuck-migration", "no-guest-ram", "out-of-order", "held-kinds"),
    *("stuck-packed", "stuck-packed-direct", "stuck-plain", "stuck-legacy"),
    *("stuck-in-order", "stuck-in-order-packed", "microvm", "microvm-legacy"),
    *("stuck-iommu", "stuck-iommu-packed", "stuck-iommu-scalable", "stuck-iommu-first-level"),
    *("stuck-virtio-iommu", "stuck-amd-iommu-off"),
)
_CASES = [case for case in iter_cases() if "virtio" in (case.qmp_before or {})]
_CORES = [core for core in iter_cores() if core.gdb is not None]

if not _CASES:
    pytest.skip("no cases: run `python -m tests.lab all` first", allow_module_level=True)


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def test_qemu_lists_the_devices_that_were_asked_for(case: Case) -> None:
    wanted = {_path(device): device["queues"] for device in case.manifest["expected"]["devices"]}
    listed = {device["path"]: len(device["queues"]) for device in case.qmp_before["virtio"]}
    assert listed.keys() == wanted.keys()
    for path, queues in wanted.items():
        assert queues in (None, listed[path])


@pytest.mark.parametrize("core", _CORES, ids=lambda core: core.name)
def test_gdb_finds_what_qemu_lists(core: CoreCase) -> None:
    found = {device["canonical_path"]: device for device in core.gdb["devices"]}
    if core.case in _CASES:
        assert found.keys() == {device["path"] for device in core.case.qmp_before["virtio"]}
    for expected in core.case.manifest["expected"]["devices"]:
        device = found[_path(expected)]
        assert device["id"] == expected["id"]
        if expected["pci_address"] is None:
            assert "devfn" not in device
            continue
        slot, function = divmod(device["devfn"], 8)
        assert f"00:{slot:02x}.{function}" == expected["pci_address"]


def _path(expected: dict[str, Any]) -> str:
    """Return the QOM path; a device of virtio-mmio has the user's id itself."""
    own = f"/machine/peripheral/{expected['id']}"
    return own if expected["pci_address"] is None else f"{own}/virtio-backend"


@pytest.mark.parametrize("core", _CORES, ids=lambda core: core.name)
def test_gdb_and_qemu_say_the_same_of_queues_at_rest(core: CoreCase) -> None:
    for before, after in _pairs(core.case):
        if before != after or "inuse" not in before:
            continue
        device = next(
            device for device in core.gdb["devices"] if device["canonical_path"] == before["device"]
        )
        fields = device["queues"][before["queue-index"]]["fields"]
        assert fields["inuse"] == before["inuse"]
        assert fields["last_avail_idx"] == before["last-avail-idx"]
        assert fields["used_idx"] == before["used-idx"]
        assert fields["vring.desc"] == before["vring-desc"]


@pytest.mark.parametrize("core", _CORES, ids=lambda core: core.name)
def test_gdb_finds_as_many_requests_as_are_in_use(core: CoreCase) -> None:
    for device in core.gdb["devices"]:
        if device["c_type"] != "VirtIOBlock":
            continue
        for number, queue in enumerate(device["queues"]):
            found = [
                request["ndescs"]
                for request in core.gdb["requests"]
                if request["device"] == device["address"] and request["queue"] == number
            ]
            assert sum(found) + held_back(queue) == queue["fields"]["inuse"]


@pytest.mark.parametrize(
    "core",
    [core for core in _CORES if core.case.scenario in _HELD_EXACTLY],
    ids=lambda core: core.name,
)
def test_the_server_holds_what_gdb_finds(core: CoreCase) -> None:
    held = [held for server in core.case.servers for held in server["held"]]
    assert len(held) >= (2 if core.case.for_arm64 else 4)
    assert sorted(map(_held_place, held)) == sorted(map(_request_place, core.gdb["requests"]))


def _pairs(case: Case) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    if case.qmp_after is None or case not in _CASES:
        return []
    return list(zip(_queues(case.qmp_before), _queues(case.qmp_after), strict=True))


def _queues(facts: Any) -> list[dict[str, Any]]:
    return [
        {**queue, "device": device["path"]}
        for device in facts["virtio"]
        for queue in device["queues"]
    ]


def _held_place(held: dict[str, Any]) -> tuple[Any, ...]:
    # What a request says of its place is set for reads and writes only.
    if held["type"] in ("read", "write"):
        return held["type"], held["offset"], held["length"]
    return held["type"], 0, 0


def _request_place(request: dict[str, Any]) -> tuple[Any, ...]:
    kind = request["type"]
    if kind in (_READ, _WRITE):
        return _TYPES[kind], request["sector_num"] * 512, request["qiov_size"]
    return _TYPES[kind], 0, 0
