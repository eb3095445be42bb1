"""Micro-benchmarks of the pure parts.

python -m pytest benchmarks/test_micro.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import UnsetType

import vringcore
from benchmarks.cores import core_of_queues
from tests.lab.paths import qemu_directory
from tests.synth.programs import Variant, compile_program
from tests.synth.rings import Buffer, GuestMemory, SplitQueue
from tests.virtio.spaces import GuestSpace, ring_of
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.provider import DebugInfo
from vringcore.layout.provider import Layouts
from vringcore.layout.store import LayoutStore
from vringcore.layout.types import Record
from vringcore.qemu.structs import VirtQueue
from vringcore.virtio.chain import ChainEnd, walk_chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.queues import Queue

REQUEST = [
    Buffer(0x50000, 16),
    Buffer(0x60000, 4096, writable=True),
    Buffer(0x70000, 1, writable=True),
]
QEMU = qemu_directory("7.2") / "qemu-system-x86_64"

needs_qemu = pytest.mark.skipif(
    not QEMU.exists(), reason="no QEMU: `python -m tests.lab build 7.2`"
)


def layouts_of(program: Path) -> Layouts:
    """Open a program's debug information with no cache."""
    with ElfFile.open(str(program)) as elf:
        build_id, pointer_size = elf.build_id, elf.header.pointer_size
    provider = DebugInfo(find_files(build_id, str(program)))
    return LayoutStore().layouts(build_id, [provider], pointer_size=pointer_size)


@pytest.mark.parametrize("indirect_from", [None, 0], ids=["direct", "indirect"])
def test_walk_64_chains_of_a_split_ring(benchmark: Any, indirect_from: int | None) -> None:
    queue = SplitQueue(GuestMemory(0x100000), 256)
    heads = [queue.publish(REQUEST, indirect_from=indirect_from) for _ in range(64)]
    space = GuestSpace(queue.memory)

    def walk() -> list[ChainEnd]:
        table = ring_of(queue, space).table
        return [walk_chain(table, head, space).end for head in heads]

    assert benchmark(walk) == [ChainEnd.COMPLETE] * 64


def test_look_up_a_type_in_the_dwarf_of_a_small_program(benchmark: Any, tmp_path: Path) -> None:
    variant = Variant("gcc-dwarf5", flags=("-gdwarf-5",))
    if variant.missing_tool():
        pytest.skip(f"needs {variant.missing_tool()}")
    program = compile_program(variant, tmp_path)
    found = benchmark(lambda: layouts_of(program).definition("struct VirtQueue"))
    assert isinstance(found, Record)


@needs_qemu
def test_look_up_virtqueue_in_the_dwarf_of_qemu(benchmark: Any) -> None:
    """Nothing cached: the file is opened and the unit that defines the type is found."""
    found = benchmark(lambda: layouts_of(QEMU).definition(VirtQueue.c_type, VirtQueue.unit))
    assert isinstance(found, Record)


@pytest.fixture
def core() -> Iterator[vringcore.Core]:
    with vringcore.open_core(str(core_of_queues(QEMU, 4)), executable=str(QEMU)) as opened:
        yield opened


def first_queue(core: vringcore.Core) -> Queue:
    queues = core.virtio_devices()[0].queues
    assert not isinstance(queues, UnsetType)
    return queues[0]


@needs_qemu
def test_decode_all_members_of_a_virtqueue(benchmark: Any, core: vringcore.Core) -> None:
    views = core.process.views
    queue = first_queue(core)
    type_ = views.layouts.named(VirtQueue.c_type)
    fields = benchmark(lambda: views.value(type_, int(queue.address)).read())
    assert fields == queue.fields


@needs_qemu
def test_the_declared_members_of_a_virtqueue(benchmark: Any, core: vringcore.Core) -> None:
    views = core.process.views
    queue = first_queue(core)
    read = benchmark(lambda: views.at(VirtQueue, int(queue.address)).last_avail_idx)
    assert read == queue.last_avail_idx
