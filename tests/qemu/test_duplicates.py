"""A driver that publishes a head which is still in flight."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.qemu.damaged import Patched, core_over
from tests.qemu.support import CORES, open_lab
from vringcore.model.rings import SplitRing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.rings import Chain
    from vringcore.qemu.process import Process

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not CORES, reason="no cores: run `python -m tests.lab make 7.2`"),
]


@pytest.fixture(scope="module")
def stuck() -> Iterator[Process]:
    cases = [core for core in CORES if core.case.name.endswith("/stuck")]
    process = open_lab(cases[0])
    yield process
    process.close()


def published(process: Process, heads: list[int]) -> tuple[Chain, ...]:
    """Return the chains of queue 0 once its driver has published some heads more."""
    ring = core_over(process, process.views.space).ring("0", 0).split
    assert isinstance(ring, SplitRing)
    assert isinstance(ring.available, tuple)
    assert isinstance(ring.guest.avail_idx, int)
    start, index = int(ring.avail_address), ring.guest.avail_idx
    patches = {start + 2: struct.pack("<H", (index + len(heads)) % 65536)}
    for step, head in enumerate(heads):
        slot = (index + step) % 65536 % len(ring.available)
        patches[start + 4 + 2 * slot] = struct.pack("<H", head)
    return core_over(process, Patched(process.views.space, patches)).ring("0", 0).chains


def test_a_head_that_is_published_again_is_told_and_shown_once(stuck: Process) -> None:
    truth = core_over(stuck, stuck.views.space).ring("0", 0).chains
    assert truth
    assert not any("duplicate-head" in chain.detail for chain in truth)
    heads = [chain.head for chain in truth]
    seen = published(stuck, heads[:1])
    assert sorted(chain.head for chain in seen) == sorted(heads)
    assert [chain.head for chain in seen if "duplicate-head" in chain.detail] == heads[:1]
    assert all(chain.end == "complete" for chain in seen)


def test_a_head_behind_the_table_is_told_even_if_it_is_there_twice(stuck: Process) -> None:
    chain, *_ = published(stuck, [60000, 60000])
    assert (chain.head, chain.end, chain.descriptors) == (60000, "index-range", ())
