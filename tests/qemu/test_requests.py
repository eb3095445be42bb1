"""virtio-blk requests in flight, against gdb's list and what the NBD servers held."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.cores import cores
from tests.lab.compare import held_back
from tests.qemu.damaged import over, patched
from vringcore.memory.trace import TracingSpace
from vringcore.model.requests import BlockRequest, InFlight
from vringcore.model.values import Absent
from vringcore.qemu import heapscan
from vringcore.qemu.block import BlockLayer
from vringcore.qemu.block_structs import BdrvTrackedRequest, BlockDriverState
from vringcore.qemu.device_structs import VirtIOBlock
from vringcore.qemu.requests import virtio_blk_requests
from vringcore.qemu.virtqueues import read_queues

if TYPE_CHECKING:
    from tests.lab.cases import CoreCase
    from vringcore.model.report import Limitation
    from vringcore.qemu.process import Process
    from vringcore.view.views import Views

PLACES = {
    "tracked_requests": "tracked-request",
    "queued_requests": "drain-queue",
    "throttled_reqs": "throttle",
    "nbd": "nbd",
    "rq": "retry-list",
    "thread_pool": "thread-pool",
}
"""Where gdb's script found a request, and what that place is called here."""

SERVER_WORDS = {"discard": "trim", "write-zeroes": "zero"}

WORKERS = {"slow-threads", "stuck-threads"}
NOT_HELD_ALONE = {"stuck-native", "stuck-io-uring", "stuck-threads", "slow-threads"}
"""A FUSE process between QEMU and server passes one request at a time (docs/lab.md)."""


def of_scenarios(*names: str) -> list[Any]:
    return cores(lambda core: core.case.scenario in names)


def has_its_server(core: CoreCase) -> bool:
    """Tell whether a server's record can be compared with what is in flight."""
    # Of a VM that is not at rest nothing was noted as in flight.
    rests = bool(core.case.manifest["expected"]["in_flight"])
    return bool(core.case.servers) and rests and core.case.scenario not in NOT_HELD_ALONE


def disks(core: CoreCase) -> list[dict[str, Any]]:
    return [device for device in core.gdb["devices"] if device["c_type"] == "VirtIOBlock"]


def ask(
    views: Views, disk: dict[str, Any], *, deep: bool = False
) -> tuple[dict[int, list[InFlight]], list[Limitation]]:
    queues, _ = read_queues(views, disk["fields"]["vq"], disk["address"])
    return virtio_blk_requests(BlockLayer(views), disk["address"], queues, deep=deep)


def truth(core: CoreCase, disk: dict[str, Any]) -> dict[int, dict[str, Any]]:
    found = [each for each in core.gdb["requests"] if each["device"] == disk["address"]]
    return {each["address"]: each for each in found}


def block(request: InFlight) -> BlockRequest:
    assert request.request is not None
    return request.request


def addresses(found: dict[int, list[InFlight]]) -> set[int]:
    return {block(each).address for queue in found.values() for each in queue}


def test_requests_equal_gdbs(core: CoreCase, opened: Process) -> None:
    for disk in disks(core):
        found, limits = ask(opened.views, disk)
        expected = truth(core, disk)
        assert limits == []
        assert addresses(found) == set(expected)
        for index, requests in found.items():
            for each in requests:
                known = expected[block(each).address]
                assert (index, each.head, each.ndescs) == (
                    known["queue"],
                    known["index"],
                    known["ndescs"],
                )
                assert block(each).type == known["type"]


def test_every_request_in_use_is_identified(core: CoreCase, opened: Process) -> None:
    for disk in disks(core):
        found, _ = ask(opened.views, disk)
        # Of packed rings QEMU counts the descriptors. What has ended in order is no request.
        in_use = {
            number: q["fields"]["inuse"] - held_back(q) for number, q in enumerate(disk["queues"])
        }
        counted = {index: sum(each.ndescs for each in found[index]) for index in found}
        assert counted == in_use
        assert list(found) == list(range(len(disk["queues"])))


def test_sector_length_start_and_data_equal_gdbs(core: CoreCase, opened: Process) -> None:
    for disk in disks(core):
        expected = truth(core, disk)
        found, _ = ask(opened.views, disk)
        for each in (each for queue in found.values() for each in queue):
            request, known = block(each), expected[block(each).address]
            if request.operation not in ("read", "write"):
                continue
            assert request.sector == known["out_sector"] == known["sector_num"]
            assert request.length == known["acct_bytes"]
            assert request.started_ns == known["acct_start_time_ns"]
            # Linux gives header and status buffers of their own: 16 bytes first, 1 byte last.
            reads = request.operation == "read"
            data = known["in_buffers"][:-1] if reads else known["out_buffers"][1:]
            assert [(b.address, b.length) for b in request.buffers] == [
                (b["host_address"], b["length"]) for b in data
            ]


def test_oldest_first_and_no_age_below_zero(core: CoreCase, opened: Process) -> None:
    for disk in disks(core):
        found, _ = ask(opened.views, disk)
        for requests in found.values():
            starts = [block(each).started_ns for each in requests]
            known = [start for start in starts if isinstance(start, int)]
            assert known == sorted(known)
            assert starts[: len(known)] == known
            for each in requests:
                assert each.age is not None
                if isinstance(each.age, Absent):
                    assert block(each).operation == "discard"
                else:
                    assert not each.age.exact
                    assert each.age.nanoseconds >= 0


@pytest.mark.parametrize("core", of_scenarios("out-of-order"), indirect=True)
def test_a_request_held_for_long_is_seen_to_be_old(core: CoreCase, opened: Process) -> None:
    """The server let others pass the held one for two seconds and more before the core."""
    (disk,) = disks(core)
    found, _ = ask(opened.views, disk)
    oldest, *others = found[0]
    held = core.case.manifest["expected"]["notes"]["held_offset"]
    assert block(oldest).sector == held // 512
    ages = [each.age.nanoseconds for each in (oldest, *others)]  # type: ignore[union-attr]
    assert ages[0] > 1_000_000_000 > max(ages[1:])


def test_places_are_those_where_gdb_found_it_outermost_first(
    core: CoreCase, opened: Process
) -> None:
    layer = BlockLayer(opened.views)
    for disk in disks(core):
        expected = truth(core, disk)
        backend = layer.attached_to(disk["address"])
        depths = {n.name: n.depth for n in layer.graph_of(backend.address_)} if backend else {}
        found, _ = ask(opened.views, disk)
        for each in (each for queue in found.values() for each in queue):
            here = {(w.place, w.node) for w in each.waits_in}
            theirs = {
                (PLACES[place["list"]], place.get("node", place.get("owner", "")))
                for place in expected[block(each).address]["found_in"]
            }
            theirs = {(place, "" if node == "backend" else node) for place, node in theirs}
            assert theirs <= here
            # gdb's script knows neither what the kernel has nor the coroutines that qcow2 starts.
            assert {place for place, node in here - theirs if node != below_qcow2(core)} <= {
                "linux-aio",
                "io-uring",
            }
            order = [depths[w.node] for w in each.waits_in if w.place == "tracked-request"]
            assert order == sorted(order)
            slots = [w.detail for w in each.waits_in if w.place == "nbd"]
            known = [p["slot"] for p in expected[block(each).address]["found_in"] if "slot" in p]
            assert [int(text.split(",")[0].removeprefix("slot ")) for text in slots] == known


def below_qcow2(core: CoreCase) -> str | None:
    return "slow0" if core.case.scenario == "qcow2-tasks" else None


@pytest.mark.parametrize("core", of_scenarios("qcow2-tasks"), indirect=True)
def test_parts_of_a_request_in_coroutines_of_their_own(core: CoreCase, opened: Process) -> None:
    """qcow2 reads scattered clusters at once; each waits in the throttle node below it."""
    (disk,) = disks(core)
    found, _ = ask(opened.views, disk)
    several = 0
    for each in (each for queue in found.values() for each in queue):
        tracked = [w for w in each.waits_in if w.place == "tracked-request"]
        above, *below = tracked
        assert (above.node, {w.node for w in below}) == ("qcow0", {"slow0"})
        lengths = [int(w.detail.split()[2]) for w in tracked]
        assert lengths[0] == block(each).length
        assert sum(lengths[1:]) <= lengths[0]
        several += len(below) > 1
        assert len([w for w in each.waits_in if w.place == "throttle"]) == len(below)
    assert several


@pytest.mark.parametrize("core", of_scenarios(*WORKERS), indirect=True)
def test_worker_threads_hold_a_request_each(core: CoreCase, opened: Process) -> None:
    (disk,) = disks(core)
    found, _ = ask(opened.views, disk)
    requests = [each for queue in found.values() for each in queue]
    workers = [w for each in requests for w in each.waits_in if w.place == "thread-pool"]
    assert requests
    assert {w.detail for w in workers} == {"active in a worker thread"}
    assert len({w.address for w in workers}) == len(workers) == len(requests)


def test_kernel_engines_hold_as_many_as_they_count(core: CoreCase, opened: Process) -> None:
    engines: dict[str, dict[str, int]] = {}
    for node in core.gdb["block"]["nodes"]:
        engines.update(node["engines"])
    found = [
        waiting
        for disk in disks(core)
        for queue in ask(opened.views, disk)[0].values()
        for each in queue
        for waiting in each.waits_in
    ]
    for place, engine in (("linux-aio", "linux_aio"), ("io-uring", "linux_io_uring")):
        here = [w for w in found if w.place == place]
        submitted = [w for w in here if w.detail.startswith("submitted")]
        queued = [w for w in here if w.detail.startswith("queued")]
        # QEMU 10.2 has one io_uring in each event loop, which counts nothing.
        uncounted = len(core.gdb["requests"]) if core.case.scenario == f"stuck-{place}" else 0
        counted = engines.get(engine, {"in_flight": uncounted, "in_queue": 0})
        assert len(submitted) == counted["in_flight"]
        assert len(queued) == counted["in_queue"]
        assert len({w.address for w in here}) == len(here)


@pytest.mark.parametrize("core", cores(has_its_server), indirect=True)
def test_the_server_holds_exactly_what_waits_for_it(core: CoreCase, opened: Process) -> None:
    # What a vhost back-end asks of a server is none of QEMU's requests.
    expected = core.case.manifest["expected"]["devices"]
    asked = {device["server"] for device in expected if device["kind"] == "virtio-blk"}
    held = sorted(
        (each["type"], each["offset"], each["length"])
        for server in core.case.servers
        if server["name"] in asked
        for each in server["held"]
    )
    # Requests that QEMU merged share a slot and are one to the server.
    slots: dict[int, list[BlockRequest]] = {}
    for disk in disks(core):
        for queue in ask(opened.views, disk)[0].values():
            for each in queue:
                for waiting in each.waits_in:
                    if waiting.place == "nbd":
                        slots.setdefault(waiting.address, []).append(block(each))
    assert sorted(_as_one(requests) for requests in slots.values()) == held


def _as_one(requests: list[BlockRequest]) -> tuple[str, int, int]:
    (operation,) = {SERVER_WORDS.get(each.operation, each.operation) for each in requests}
    if operation == "flush":
        return operation, 0, 0
    starts = [int(each.sector) * 512 for each in requests]
    return operation, min(starts), sum(int(each.length) for each in requests)


def without_lists(views: Views, disk: dict[str, Any]) -> Views:
    """Return the same process with every list that leads to a request emptied."""
    blk = views.at(VirtIOBlock, disk["address"]).blk
    heads = [disk["address"] + views.offset(VirtIOBlock.c_type, "rq")]
    heads += [blk + views.offset("struct BlockBackend", "root")]  # no graph at all
    heads += [blk + views.offset("struct BlockBackend", "queued_requests")]
    throttle = "public.throttle_group_member.throttled_reqs"
    heads += [blk + views.offset("struct BlockBackend", f"{throttle}[{i}]") for i in (0, 1)]
    return patched(views, dict.fromkeys(heads, bytes(8)))


def test_the_search_alone_finds_the_same(core: CoreCase, opened: Process) -> None:
    for disk in disks(core):
        expected = truth(core, disk)
        found, limits = ask(without_lists(opened.views, disk), disk)
        assert addresses(found) == set(expected)
        assert all(each.waits_in == () for queue in found.values() for each in queue)
        assert bool(limits) == bool(expected)
        if expected:
            count = sum(request["ndescs"] for request in expected.values())
            assert f"{count} " in limits[0].what  # of a packed ring: descriptors
            assert f"{len(expected)} identified" in limits[0].why


def test_who_asks_again_is_told_again(core: CoreCase, opened: Process) -> None:
    for disk in disks(core):
        views = without_lists(opened.views, disk)
        queues, _ = read_queues(views, disk["fields"]["vq"], disk["address"])
        layer = BlockLayer(views)
        first = virtio_blk_requests(layer, disk["address"], queues)
        assert virtio_blk_requests(layer, disk["address"], queues) == first
        assert layer.limits == []


def test_the_search_keeps_to_its_budget(core: CoreCase, opened: Process) -> None:
    for disk in disks(core):
        none = heapscan.scan(opened.views, disk["address"], budget=0)
        assert none.candidates == []
        assert none.bytes_read == 0
        assert none.bytes_left > 0
        some = heapscan.scan(opened.views, disk["address"], budget=none.bytes_left // 2)
        assert some.bytes_read <= none.bytes_left // 2
        assert some.bytes_read + some.bytes_left == none.bytes_left


def test_more_candidates_than_requests_in_use_are_not_guessed(
    core: CoreCase, opened: Process
) -> None:
    """With one fewer in use than there is, it cannot be told which of them is freed memory."""
    for disk in disks(core):
        views = without_lists(opened.views, disk)
        found, _ = ask(views, disk)
        busy = next((index for index, queue in found.items() if len(queue) > 1), None)
        if busy is None:
            continue
        queue = disk["queues"][busy]
        at = queue["address"] + views.offset("struct VirtQueue", "inuse")
        fewer = patched(views, {at: (len(found[busy]) - 1).to_bytes(4, "little")})
        again, limits = ask(fewer, disk)
        assert again[busy] == []
        assert any("cannot be told" in limit.why for limit in limits)
        assert {i: len(q) for i, q in again.items() if i != busy} == {
            i: len(q) for i, q in found.items() if i != busy
        }


@pytest.mark.parametrize("member", ["dev", "vq", "elem.index"])
def test_a_request_of_another_device_or_queue_is_not_taken(
    core: CoreCase, opened: Process, member: str
) -> None:
    for disk in disks(core):
        at = opened.views.offset("struct VirtIOBlockReq", member)
        for address in sorted(truth(core, disk))[:1]:
            wrong = bytes(8) if member == "dev" else b"\xff" * (4 if member == "elem.index" else 8)
            found, limits = ask(patched(opened.views, {address + at: wrong}), disk)
            assert address not in addresses(found)
            assert any("in use are in no list" in limit.what for limit in limits)


def test_damage_gives_fewer_requests_and_never_another_error(
    core: CoreCase, opened: Process
) -> None:
    """What was read is overwritten in places taken at random, with values chosen to mislead."""
    chance = random.Random(7)
    for disk in disks(core):
        space = TracingSpace(opened.views.space)
        ask(over(opened.views, space), disk)
        read = space.touched()
        ended = {number: held_back(queue) for number, queue in enumerate(disk["queues"])}
        for _ in range(25):
            start, end = chance.choice(read)
            value = chance.choice([0, 1, -1, 1 << 63, start, disk["address"]]) & (1 << 64) - 1
            at = chance.randrange(start, end) & ~7
            views = patched(opened.views, {at: value.to_bytes(8, "little")})
            found, limits = ask(views, disk)
            queues, _ = read_queues(views, disk["fields"]["vq"], disk["address"])
            missing = {
                q.index
                for q in queues
                # What has ended in order is known by a flag, which may be damaged as well.
                if not ended.get(q.index)
                and q.view.inuse > sum(each.ndescs for each in found[q.index])
            }
            assert limits or not missing


@pytest.mark.parametrize("core", of_scenarios("idle", "paused"), indirect=True)
def test_an_idle_disk_has_none(core: CoreCase, opened: Process) -> None:
    for disk in disks(core):
        found, limits = ask(opened.views, disk, deep=True)
        assert addresses(found) == set()
        assert limits == []


def test_a_tracked_request_without_coroutine_leads_nowhere(core: CoreCase, opened: Process) -> None:
    views = opened.views
    for disk in disks(core):
        blk = views.at(VirtIOBlock, disk["address"]).blk
        for node in BlockLayer(views).graph_of(blk):
            head = node.address + views.offset(BlockDriverState.c_type, "tracked_requests")
            first = views.pointer(head)
            if first:
                co = first + views.offset(BdrvTrackedRequest.c_type, "co")
                found, _ = ask(patched(views, {co: bytes(8)}), disk)
                assert addresses(found) <= set(truth(core, disk))
