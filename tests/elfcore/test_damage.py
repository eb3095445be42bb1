"""A damaged core gives our errors or a partial answer, whatever the damage."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.elfcore.test_core import process
from tests.synth.core import CoreBuilder
from vringcore.addresses import HostAddress
from vringcore.elfcore.core import ElfCore, open_elf_core
from vringcore.elfcore.executable import read_executable
from vringcore.errors import AddressOverflowError, MemoryFault, VringcoreError
from vringcore.memory.files import FileSource


def builders() -> list[CoreBuilder]:
    last = process()
    last.notes_last = True
    extended = process()
    extended.extended_count = True
    small = CoreBuilder(elf_class=32, big_endian=True, machine=40)
    small.thread(1)
    small.files([(0x1000, 0x2000, 0, b"/bin/a")])
    small.segment(0x1000, b"\x7fELF\x01\x02\x01".ljust(100, b"\1"), memory_size=0x1000)
    return [process(), last, extended, small]


IMAGES = [builder.build() for builder in builders()]


def touch_everything(core: ElfCore) -> None:
    """Ask for all that a core offers; only our errors may come out."""
    core.executable_path  # noqa: B018
    for module in core.modules:
        assert isinstance(module.build_id, str)
        assert module.load_bias is None or isinstance(module.load_bias, int)
    with suppress(VringcoreError):
        core.executable_bias(0x1040)
    space = core.with_files({})
    for known in [*core.memory.ranges(), *space.ranges()]:
        for piece in space.pieces(HostAddress(known.address), min(known.size, 1 << 16)):
            assert (piece.data is None) != (piece.gap is None)
        with suppress(MemoryFault, AddressOverflowError):
            assert len(space.read(HostAddress(known.address), 8)) == 8


def survives(path: Path, image: bytes) -> bool:
    """Open and touch everything; tell whether the core could be opened."""
    path.write_bytes(image)
    try:
        core = open_elf_core(str(path))
    except VringcoreError:
        return False
    with core:
        touch_everything(core)
    return True


# Where the extended count is cut off, nothing tells the number of a few segments.
@pytest.mark.parametrize("image", [IMAGES[0], IMAGES[1], IMAGES[3]])
def test_a_core_cut_anywhere(tmp_path: Path, image: bytes) -> None:
    step = max(1, len(image) // 600)
    places = sorted({*range(0, min(len(image), 2500), 7), *range(0, len(image), step)})
    assert len(places) > 100
    opened = [survives(tmp_path / "core", image[:place]) for place in places]
    assert not opened[0]
    # From the first byte of memory on, every cut core can be opened.
    assert opened == sorted(opened)
    assert opened[-1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(IMAGES), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255))))
def test_bytes_changed_anywhere(
    tmp_path: Path, image: bytes, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(image)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    survives(tmp_path / "core", bytes(damaged))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(IMAGES),
    st.integers(0, 3000),
    st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]),
    st.sampled_from([1, 2, 4, 8]),
)
@example(IMAGES[0], 64 + 56 + 16, 0xFF, 8)
def test_fields_filled_with_extremes(
    tmp_path: Path, image: bytes, place: int, value: int, width: int
) -> None:
    place -= place % width
    damaged = bytearray(image)
    damaged[place : place + width] = bytes([value]) * width
    survives(tmp_path / "core", bytes(damaged))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_behind_the_magic(tmp_path: Path, data: bytes) -> None:
    survives(tmp_path / "core", b"\x7fELF\x02\x01\x01" + data)
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + data)
    with FileSource.open(str(path)) as source, suppress(VringcoreError):
        read_executable(source)
