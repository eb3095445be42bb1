"""A legacy driver of a big-endian guest: rings, tables and headers in its byte order.

There is no such guest in the lab, so one is made of a core: every word that a driver or QEMU wrote
in the guest's order is turned around, and what is read must stay the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.qemu.damaged import Patched, core_over
from tests.qemu.support import CORES, open_lab
from vringcore.addresses import GuestAddress, HostAddress
from vringcore.model.requests import BlockRequest
from vringcore.model.rings import SplitRing
from vringcore.qemu.device_structs import VirtIOBlockReq
from vringcore.qemu.structs import VirtIODevice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.api import Core
    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.qemu.process import Process

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not CORES, reason="no cores: run `python -m tests.lab make 7.2`"),
]

VERSION_1 = 32
BIG = 2

DESCRIPTOR = (8, 4, 2, 2)
HEADER = (4, 4, 8)


@pytest.fixture(scope="module")
def sound() -> Iterator[Process]:
    """virtio-blk with indirect descriptors, requests in flight in each of four queues."""
    # The one of an arm64 host has one queue.
    cases = [c for c in CORES if c.case.name.endswith("/stuck") and not c.case.for_arm64]
    if not cases:
        pytest.skip("no case: `python -m tests.lab make 7.2 stuck`")
    process = open_lab(cases[0])
    yield process
    process.close()


@pytest.fixture(scope="module")
def turned(sound: Process) -> Core:
    return core_over(sound, Patched(sound.views.space, turned_words(sound)))


def only(core: Core) -> tuple[Device, tuple[Queue, ...]]:
    (device,) = core.virtio_devices()
    assert isinstance(device.queues, tuple)
    return device, device.queues


def turned_words(process: Process) -> dict[int, bytes]:
    """Return all that a driver and QEMU wrote in the guest's byte order, the other way round."""
    core = core_over(process, process.views.space)
    device, queues = only(core)
    views = process.views
    features = int(device.address) + views.offset(VirtIODevice.c_type, "guest_features")
    word = views.integer(features, 8) & ~(1 << VERSION_1)
    endian = int(device.address) + views.offset(VirtIODevice.c_type, "device_endian")
    patches = {features: word.to_bytes(8, "little"), endian: BIG.to_bytes(4, "little")}

    def turn(address: int, widths: tuple[int, ...], count: int = 1) -> None:
        data = views.space.read(HostAddress(address), sum(widths) * count)
        turned, at = b"", 0
        for width in widths * count:
            turned += data[at : at + width][::-1]
            at += width
        patches[address] = turned

    for queue in queues:
        ring = core.ring("0", queue.index).split
        assert isinstance(ring, SplitRing)
        assert isinstance(queue.size, int)
        turn(int(ring.descriptor_address), DESCRIPTOR, queue.size)
        turn(int(ring.avail_address), (2,), 3 + queue.size)
        turn(int(ring.used_address), (2, 2) + (4, 4) * queue.size + (2,))
        assert isinstance(queue.in_flight, tuple)
        for request in queue.in_flight:
            assert isinstance(request.descriptors, tuple)
            assert isinstance(request.request, BlockRequest)
            (table,) = [d for d in request.descriptors if "indirect" in d.flag_names]
            host = process.guest_memory.host_address(GuestAddress(table.address))
            turn(host, DESCRIPTOR, table.length // 16)
            out = views.offset(VirtIOBlockReq.c_type, "out")
            turn(int(request.request.address) + out, HEADER)
    return patches


def test_indices_rings_and_tables_are_the_same(sound: Process, turned: Core) -> None:
    truth = core_over(sound, sound.views.space)
    for queue, true_queue in zip(only(turned)[1], only(truth)[1], strict=True):
        assert (queue.guest, queue.counts) == (true_queue.guest, true_queue.counts)
        document = turned.ring("0", queue.index)
        true_document = truth.ring("0", queue.index)
        assert document.split == true_document.split
        assert document.chains == true_document.chains
        assert all(chain.end == "complete" for chain in document.chains)


def test_requests_and_their_chains_are_the_same(sound: Process, turned: Core) -> None:
    truth = core_over(sound, sound.views.space)
    count = 0
    for queue, true_queue in zip(only(turned)[1], only(truth)[1], strict=True):
        assert queue.in_flight == true_queue.in_flight
        assert isinstance(queue.in_flight, tuple)
        for request in queue.in_flight:
            assert request.chain_end == "complete"
            assert isinstance(request.request, BlockRequest)
            assert request.request.operation in ("read", "write")
        count += len(queue.in_flight)
    assert count >= 4


def test_without_the_byte_order_nothing_fits(sound: Process) -> None:
    """The words are turned, and the device does not say so: this is what the tests would miss."""
    patches = turned_words(sound)
    (device,) = core_over(sound, sound.views.space).virtio_devices()
    place = int(device.address) + sound.views.offset(VirtIODevice.c_type, "device_endian")
    del patches[place]
    core = core_over(sound, Patched(sound.views.space, patches))
    truth = core_over(sound, sound.views.space)
    for queue, true_queue in zip(only(core)[1], only(truth)[1], strict=True):
        assert queue.guest != true_queue.guest
        assert queue.in_flight != true_queue.in_flight
