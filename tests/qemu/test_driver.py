"""The guest's driver on cores that do not hold the guest's memory, and by types that cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cores import dumps
from tests.lab.cases import CoreCase
from tests.synth.btf import BtfBuilder
from vringcore.errors import LayoutError
from vringcore.qemu.driver import check_kind, guest_types
from vringcore.qemu.driver_requests import packed_distance


def written(directory: Path, *, pointer: int = 8, order: str = "<", virtio: bool = True) -> str:
    """Write the types that the search itself needs; return the file's path."""
    build = BtfBuilder(order=order)
    word = build.integer("long unsigned int", pointer)
    bits = 8 * pointer
    entry = build.record("list_head", 2 * pointer, [("next", word, 0, 0), ("prev", word, bits, 0)])
    if virtio:
        queue = build.record("virtqueue", 2 * pointer, [("list", entry, 0, 0)])
        split = build.record("vring_virtqueue_split", pointer, [("queue_dma_addr", word, 0, 0)])
        members = [("vq", queue, 0, 0), ("split", split, 2 * bits, 0)]
        build.record("vring_virtqueue", 3 * pointer, members)
    path = directory / "btf"
    path.write_bytes(build.blob())
    return str(path)


@pytest.mark.parametrize("core_case", dumps())
def test_a_small_core_says_what_it_lacks(core_case: CoreCase, tmp_path: Path) -> None:
    with core_case.open() as core:
        if not core.virtio_devices():
            pytest.skip("no virtio devices")
        if "packed" in core_case.case.scenario:
            pytest.skip("the types that are built here know of no packed rings")
        document = core.driver([written(tmp_path)])
    assert document.queues == ()
    assert document.limits
    told = [limit.why for limit in document.limits if "driver's side" in limit.what]
    assert told
    assert all("small core" in why for why in told)


@pytest.mark.parametrize(
    ("pointer", "order", "kind"), [(4, "<", "32-bit little"), (8, ">", "64-bit big")]
)
def test_guests_of_other_kinds_are_refused_by_name(
    tmp_path: Path, pointer: int, order: str, kind: str
) -> None:
    with pytest.raises(LayoutError) as caught:
        check_kind(guest_types([written(tmp_path, pointer=pointer, order=order)]))
    assert kind in str(caught.value)


def test_a_kernel_without_its_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"virtio_ring\.ko"):
        check_kind(guest_types([written(tmp_path, virtio=False)]))


@given(size=st.integers(1, 1 << 15), start=st.integers(0, 1 << 16), steps=st.integers(0, 1 << 15))
def test_positions_in_a_packed_ring(size: int, start: int, steps: int) -> None:
    """A position moves on; how far it has is told as long as it is at most the ring."""

    def position(steps: int) -> tuple[int, bool]:
        return steps % size, steps // size % 2 == 0

    steps %= size + 1
    assert packed_distance(position(start + steps), position(start), size) == steps
    assert packed_distance((0, None), position(start), size) is None
