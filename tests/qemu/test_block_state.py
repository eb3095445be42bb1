"""The block layer and its coroutines where memory is damaged or gone: partial truth is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cores import lab_cores
from tests.qemu.damaged import Hidden, Patched, core_over
from tests.qemu.support import is_whole_process
from vringcore.model.block import BlockState
from vringcore.model.values import Absent
from vringcore.qemu.aio_structs import CoroutineUContext
from vringcore.qemu.block_state_structs import BdrvTrackedRequestState, ThrottleGroup
from vringcore.qemu.block_structs import BlockDriverState, Coroutine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.cases import CoreCase
    from vringcore.api import Core
    from vringcore.model.block import Node
    from vringcore.model.report import Report
    from vringcore.qemu.process import Process

pytestmark = pytest.mark.lab

WORD = 8


def is_stuck(core: CoreCase) -> bool:
    return is_whole_process(core) and core.name.endswith("/stuck-throttle/gcore")


@pytest.fixture(scope="module", params=lab_cores(is_stuck))
def process(request: pytest.FixtureRequest) -> Iterator[Process]:
    opened = request.param.open_process()
    yield opened
    opened.close()


def block_of(core: Core) -> tuple[BlockState, Report]:
    report = core.report({"block"})
    assert isinstance(report.block, BlockState)
    return report.block, report


def slow(block: BlockState) -> Node:
    assert isinstance(block.nodes, tuple)
    return next(node for node in block.nodes if node.name == "slow0")


def tracked(process: Process) -> list[int]:
    requests = slow(block_of(core_over(process, process.views.space))[0]).tracked
    assert isinstance(requests, tuple)
    return [int(each.address) for each in requests]


def word(value: int) -> bytes:
    return value.to_bytes(WORD, "little")


def test_requests_that_wait_for_one_another_are_a_circle(process: Process) -> None:
    first, second, third, *_ = tracked(process)
    at = process.views.offset(BdrvTrackedRequestState.c_type, "waiting_for")
    patches = {first + at: word(second), second + at: word(third), third + at: word(second)}
    core = core_over(process, Patched(process.views.space, patches))
    requests = slow(block_of(core)[0]).tracked
    assert isinstance(requests, tuple)
    chains = [[int(each) for each in request.waiting_for] for request in requests[:3]]
    assert chains == [[second, third, second], [third, second], [second, third]]


def test_a_list_that_is_cut_is_kept_as_far_as_it_goes_and_that_is_said(process: Process) -> None:
    found = tracked(process)
    link = found[2] + process.views.offset(BdrvTrackedRequestState.c_type, "list")
    core = core_over(process, Patched(process.views.space, {link: word(found[0])}))
    block, report = block_of(core)
    requests = slow(block).tracked
    assert isinstance(requests, tuple)
    assert [int(each.address) for each in requests] == found[:3]
    assert any("tracked requests of node slow0" in limit.what for limit in report.limits)


def test_a_list_of_which_nothing_can_be_read_is_absent(process: Process) -> None:
    node = int(slow(block_of(core_over(process, process.views.space))[0]).address)
    place = node + process.views.offset(BlockDriverState.c_type, "tracked_requests")
    core = core_over(process, Hidden(process.views.space, [(place, place + WORD)]))
    block, _ = block_of(core)
    assert isinstance(slow(block).tracked, Absent)
    assert slow(block).in_flight == 16


def test_a_throttle_group_that_is_gone_is_absent(process: Process) -> None:
    block, _ = block_of(core_over(process, process.views.space))
    assert isinstance(block.throttle_groups, tuple)
    start = int(block.throttle_groups[0].address)
    size = process.views.binding(ThrottleGroup).type.size
    core = core_over(process, Hidden(process.views.space, [(start, start + size)]))
    lost = block_of(core)[0].throttle_groups
    assert isinstance(lost, Absent) or isinstance(lost[0].name, Absent)


def coroutines_of(core: Core) -> tuple[dict[int, str], Report]:
    report = core.report({"coroutines"})
    assert isinstance(report.coroutines, tuple)
    return {int(each.address): each.state for each in report.coroutines}, report


def test_what_is_no_coroutine_is_not_shown_as_one(process: Process) -> None:
    request, *_ = tracked(process)
    place = request + process.views.offset(BdrvTrackedRequestState.c_type, "co")
    core = core_over(process, Patched(process.views.space, {place: word(request)}))
    whole, _ = coroutines_of(core_over(process, process.views.space))
    found, report = coroutines_of(core)
    # The throttle group's queue and its stack still lead to the one that the request named.
    assert found == whole
    assert any(f"{request:#x}" in limit.why for limit in report.limits)


@pytest.mark.parametrize("size", [0, 1 << 40, (1 << 64) - 1])
def test_a_coroutine_without_a_stack_is_none(process: Process, size: int) -> None:
    whole, _ = coroutines_of(core_over(process, process.views.space))
    address = next(iter(whole))
    place = address + process.views.offset(CoroutineUContext.c_type, "stack_size")
    core = core_over(process, Patched(process.views.space, {place: word(size)}))
    found, _ = coroutines_of(core)
    assert found == {each: state for each, state in whole.items() if each != address}


def test_a_coroutine_that_entered_itself_ends(process: Process) -> None:
    whole, _ = coroutines_of(core_over(process, process.views.space))
    first, second, *_ = whole
    at = process.views.offset(Coroutine.c_type, "caller")
    patches = {first + at: word(first), second + at: word(0x10)}
    found, _ = coroutines_of(core_over(process, Patched(process.views.space, patches)))
    assert found == {**whole, first: "calling", second: "running"}
