"""The state of the block layer of lab cores, as gdb and QEMU itself have it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cores import lab_cores
from tests.lab.block_truth import is_compared, truth_of
from tests.lab.cases import CoreCase
from vringcore.model.block import BlockState

Case = tuple[CoreCase, BlockState, Any]


@pytest.fixture(scope="module", params=lab_cores(is_compared))
def case(request: pytest.FixtureRequest) -> Case:
    core: CoreCase = request.param
    with core.open() as opened:
        report = opened.report({"block"})
    assert isinstance(report.block, BlockState)
    assert report.limits == ()
    return core, report.block, truth_of(core)


def word(enumerator: str, prefix: str) -> str:
    return enumerator.removeprefix(prefix).lower().replace("_", "-")


def many(value: Any) -> list[Any]:
    assert isinstance(value, tuple)
    return list(value)


def test_back_ends_are_gdbs(case: Case) -> None:
    _, block, truth = case
    assert [int(each.backend.address) for each in many(block.backends)] == [
        each["address"] for each in truth["backends"]
    ]
    for ours, theirs in zip(many(block.backends), truth["backends"], strict=True):
        assert ours.event_loop == theirs["event_loop"]
        assert ours.on_read_error == word(theirs["on_read_error"], "BLOCKDEV_ON_ERROR_")
        assert ours.on_write_error == word(theirs["on_write_error"], "BLOCKDEV_ON_ERROR_")
        assert many(ours.queued) == theirs["queued"]
        assert ours.queuing_disabled == theirs["queuing_disabled"]
        assert (ours.throttle_group is not None) == theirs["limited"]
        assert ours.backend.in_flight == theirs["in_flight"]
        assert ours.backend.quiesce_counter == theirs["quiesce_counter"]


def test_nodes_are_gdbs(case: Case) -> None:
    _, block, truth = case
    assert block.drain_all_count == truth["drain_all_count"]
    nodes = many(block.nodes)
    assert [int(each.address) for each in nodes] == [each["address"] for each in truth["nodes"]]
    names = {each["address"]: each["name"] for each in truth["nodes"]}
    devices = {int(b.backend.address): b.backend.name or b.device for b in many(block.backends)}
    for ours, theirs in zip(nodes, truth["nodes"], strict=True):
        same = ("name", "event_loop", "in_flight", "quiesce_counter", "flush_active")
        assert {key: getattr(ours, key) for key in same} == {key: theirs[key] for key in same}
        assert [list(child) for child in many(ours.children)] == theirs["children"]
        assert many(ours.parents) == [{**names, **devices}[each] for each in theirs["parents"]]
        assert many(ours.flushes) == theirs["flushes"]
        assert ours.unknown_members == ()  # nor has the lab's fork any


def test_tracked_requests_are_gdbs(case: Case) -> None:
    _, block, truth = case
    for ours, theirs in zip(many(block.nodes), truth["nodes"], strict=True):
        assert [
            {
                "address": int(each.address),
                "kind": each.kind,
                "offset": each.offset,
                "bytes": each.bytes,
                "serialising": each.serialising,
                "coroutine": int(each.coroutine),
                "waiting_for": list(each.waiting_for),
                "waiters": list(each.waiters),
            }
            for each in many(ours.tracked)
        ] == [{**each, "kind": word(each["kind"], "BDRV_TRACKED_")} for each in theirs["tracked"]]


def test_nbd_clients_are_gdbs(case: Case) -> None:
    _, block, truth = case
    for ours, theirs in zip(many(block.nodes), truth["nodes"], strict=True):
        if theirs["nbd"] is None:
            assert ours.nbd is None
            continue
        nbd, expected = ours.nbd, theirs["nbd"]
        assert nbd.address == expected["address"]
        assert nbd.state == word(expected["state"], "NBD_CLIENT_")
        assert nbd.in_flight == expected["in_flight"]
        assert nbd.reconnect_delay == expected["reconnect_delay"]
        assert (nbd.reconnect_expires_ns or -1) == expected["reconnect_expires"]
        assert many(nbd.waiting) == expected["waiting"]
        assert [
            {
                "slot": slot.slot,
                "coroutine": int(slot.coroutine),
                "offset": slot.offset,
                "receiving": slot.receiving,
            }
            for slot in many(nbd.slots)
        ] == expected["slots"]


def test_throttle_groups_are_gdbs(case: Case) -> None:
    _, block, truth = case
    groups = many(block.throttle_groups)
    assert [group.name for group in groups] == [each["name"] for each in truth["throttle_groups"]]
    for ours, theirs in zip(groups, truth["throttle_groups"], strict=True):
        assert list(ours.any_timer_armed) == theirs["any_timer_armed"]
        users = {int(member.address): member.user for member in ours.members}
        assert list(ours.tokens) == [users.get(token, "") for token in theirs["tokens"]]
        set_ = {name: value for name, value in theirs["averages"].items() if value}
        assert ours.limits == {
            word(name.replace("_OPS_", "_IOPS_"), "THROTTLE_"): value
            for name, value in set_.items()
        }
        assert [int(each.address) for each in ours.members] == [
            each["address"] for each in theirs["members"]
        ]
        for member, expected in zip(ours.members, theirs["members"], strict=True):
            assert list(member.pending) == expected["pending"]
            assert member.limits_disabled == expected["limits_disabled"]
            expires = [-1 if t.expires_ns is None else t.expires_ns for t in member.timers]
            assert expires == expected["expires"]
            assert sum(member.pending) >= sum(map(len, expected["held"]))


def test_engines_are_gdbs(case: Case) -> None:
    _, block, truth = case
    ours = {(each.kind, int(each.event_loop)): each for each in many(block.engines)}
    for expected in truth["engines"]:
        engine = ours[expected["kind"], expected["event_loop"]]
        for key in ("in_flight", "in_queue", "blocked", "idle_threads", "total_threads"):
            if key in expected:
                assert getattr(engine, key) == expected[key]
        elements = expected.get("elements", [])
        assert [
            {
                "address": int(each.address),
                "state": each.state,
                "function": each.function,
                "coroutine": None if each.coroutine is None else int(each.coroutine),
            }
            for each in engine.elements
        ] == [{**each, "state": word(each["state"], "THREAD_")} for each in elements]


def test_jobs_are_gdbs(case: Case) -> None:
    _, block, truth = case
    assert [int(job.address) for job in many(block.jobs)] == [j["address"] for j in truth["jobs"]]


def test_parked_requests_are_the_devices_lists(case: Case) -> None:
    core, block, _ = case
    lists: dict[int, list[int]] = {}
    for request in core.gdb["requests"]:
        for place in request["found_in"]:
            if place["list"] == "rq":
                lists.setdefault(place["device"], []).append(request["address"])
    devices = {each["canonical_path"]: each["address"] for each in core.gdb["devices"]}
    for backend in many(block.backends):
        if backend.device in devices:
            parked = [int(each) for each in backend.parked]
            assert parked == lists.get(devices[backend.device], [])


def test_qemu_says_the_same_of_its_drives(case: Case) -> None:
    """``query-block`` tells the node, the group and its limits, and the status of each drive."""
    core, block, _ = case
    answers = core.case.qmp_before
    if not answers or not answers.get("query-block"):
        pytest.skip("QEMU was not asked, or has no drive")
    backends = {each.device: each for each in many(block.backends)}
    groups = {group.name: group for group in many(block.throttle_groups)}
    for drive in answers["query-block"]:
        ours = backends.get(drive.get("qdev"))
        if ours is None:
            continue
        inserted = drive.get("inserted", {})
        assert ours.backend.node == inserted.get("node-name")
        assert ours.throttle_group == inserted.get("group")
        assert ours.backend.io_status in (None, drive.get("io-status"))
        if ours.throttle_group is not None:
            limits = groups[ours.throttle_group].limits
            said = {"bps-total": inserted["bps"], "iops-total": inserted["iops"]}
            assert {name: limits.get(name, 0) for name in said} == said


def test_qemu_says_the_same_of_its_nodes(case: Case) -> None:
    core, block, _ = case
    answers = core.case.qmp_before
    if not answers or "query-named-block-nodes" not in answers:
        pytest.skip("QEMU was not asked")
    said = {node["node-name"]: node["drv"] for node in answers["query-named-block-nodes"]}
    # A node may have been added since.
    assert said.items() <= {node.name: node.driver for node in many(block.nodes)}.items()
