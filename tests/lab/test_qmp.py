"""Every core against what QEMU itself said over QMP around that moment."""

from __future__ import annotations

from functools import cache

import pytest

from tests.cores import cores, told_of_virtio, was_asked
from tests.lab.cases import CoreCase, iter_dumps
from tests.lab.qmp_compare import Facts, compare_core

FACTS_OF_A_DEVICE = 150
"""Two feature words bit by bit make most of them."""

FACTS_OF_A_QUEUE_AT_REST = 20


@cache
def compared(core: CoreCase) -> Facts:
    return compare_core(core)


@pytest.mark.parametrize("core", cores(was_asked))
def test_all_that_qemu_says_of_itself_is_what_the_core_says(core: CoreCase) -> None:
    facts = compared(core)
    assert facts.differing == []
    assert facts.count >= FACTS_OF_A_DEVICE * len(core.case.qmp_before.get("virtio", ()))
    assert facts.count > 0


def is_at_rest(core: CoreCase) -> bool:
    """Tell whether nothing moved from the first question to the core to the last one."""
    stuck = core.case.scenario.startswith("stuck")
    if not (stuck and core.while_alive and core.case.qmp_after is not None):
        return False
    if not told_of_virtio(core):
        return False
    # Of queues that a vhost back-end runs QEMU says nothing.
    return not any(device["status"]["vhost-started"] for device in core.case.qmp_before["virtio"])


@pytest.mark.parametrize("core", cores(is_at_rest))
def test_a_stuck_queue_is_compared_in_full(core: CoreCase) -> None:
    devices = core.case.qmp_before["virtio"]
    queues = [queue for device in devices for queue in device["queues"]]
    elements = [element for device in devices for element in device["elements"]]
    facts = compared(core)
    assert facts.count >= FACTS_OF_A_DEVICE + FACTS_OF_A_QUEUE_AT_REST * len(queues)
    assert len(elements) == sum(queue["inuse"] for queue in queues) > 0
    # QEMU does not tell chains of packed rings.
    assert facts.chains == sum("element" in element for element in elements)


def test_the_facts_compared_are_many() -> None:
    asked = [core for core in iter_dumps() if told_of_virtio(core)]
    devices = [device for core in asked for device in core.case.qmp_before["virtio"]]
    queues = [queue for device in devices for queue in device["queues"]]
    count = sum(compared(core).count for core in asked)
    assert count >= FACTS_OF_A_DEVICE * len(devices) + 9 * len(queues)
    assert count >= 1000
