"""Every core of the lab against what QEMU itself said over QMP around that moment."""

from __future__ import annotations

from functools import cache

import pytest

from tests.lab.cases import CoreCase, iter_cores
from tests.lab.qmp_compare import Facts, compare_core

pytestmark = pytest.mark.lab

CORES = [core for core in iter_cores() if core.case.qmp_before is not None]

if not CORES:
    pytest.skip("no cores: run `python -m tests.lab make 7.2 all`", allow_module_level=True)

FACTS_OF_A_DEVICE = 150
"""Two feature words bit by bit make most of them."""

FACTS_OF_A_QUEUE_AT_REST = 20


@cache
def compared(core: CoreCase) -> Facts:
    return compare_core(core)


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
def test_all_that_qemu_says_of_itself_is_what_the_core_says(core: CoreCase) -> None:
    facts = compared(core)
    assert facts.differing == []
    assert facts.count >= FACTS_OF_A_DEVICE * len(core.case.qmp_before["virtio"])


@pytest.mark.parametrize(
    "core",
    [
        core
        for core in CORES
        if core.while_alive
        and core.case.scenario.startswith("stuck")
        and core.case.qmp_after is not None
    ],
    ids=lambda core: core.name,
)
def test_a_stuck_queue_is_compared_in_full(core: CoreCase) -> None:
    queues = [queue for d in core.case.qmp_before["virtio"] for queue in d["queues"]]
    facts = compared(core)
    assert facts.count >= FACTS_OF_A_DEVICE + FACTS_OF_A_QUEUE_AT_REST * len(queues)
    assert facts.chains == sum(queue["inuse"] for queue in queues) > 0


def test_the_facts_compared_are_many() -> None:
    devices = sum(len(core.case.qmp_before["virtio"]) for core in CORES)
    queues = sum(len(d["queues"]) for core in CORES for d in core.case.qmp_before["virtio"])
    count = sum(compared(core).count for core in CORES)
    assert count >= FACTS_OF_A_DEVICE * devices + 9 * queues
    assert count >= 1000
