from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.elfcore.test_core import BUILD_ID, PAGE, PROGRAM, process
from tests.synth.core import CoreBuilder
from vringcore.addresses import HostAddress
from vringcore.elfcore.core import ElfCore, open_elf_core
from vringcore.elfcore.headers import PT_NOTE, iterate_notes, read_program_headers
from vringcore.elfcore.writer import write_core
from vringcore.errors import MemoryFault
from vringcore.memory.space import Range


def opened(path: Path, builder: CoreBuilder) -> ElfCore:
    builder.write(path)
    return open_elf_core(str(path))


def rewritten(path: Path, core: ElfCore, ranges: list[Range]) -> ElfCore:
    with path.open("wb") as out:
        assert write_core(out, core.memory, ranges, raw_notes(core), core.header) == out.seek(0, 2)
    return open_elf_core(str(path))


def raw_notes(core: ElfCore) -> list[tuple[bytes, int, bytes]]:
    return [
        (note.owner, note.type, note.desc)
        for header in read_program_headers(core.source, core.header)
        if header.type == PT_NOTE
        for note in iterate_notes(
            core.source.read(header.offset, header.filesz), core.header.byteorder
        )
    ]


def test_a_core_written_again_is_the_same(tmp_path: Path) -> None:
    first = opened(tmp_path / "first", process())
    second = rewritten(tmp_path / "second", first, list(first.memory.ranges()))
    assert second.threads == first.threads
    assert second.auxv == first.auxv
    assert [m.path for m in second.modules] == [m.path for m in first.modules]
    assert second.executable is not None
    assert second.executable.build_id == BUILD_ID.hex()
    assert not second.truncated
    for ours, theirs in zip(second.memory.ranges(), first.memory.ranges(), strict=True):
        assert (ours.address, ours.size, ours.readable) == (
            theirs.address, theirs.size, theirs.readable,
        )  # fmt: skip
        assert (ours.writable, ours.executable) == (theirs.writable, theirs.executable)
        start = HostAddress(ours.address)
        assert second.memory.read(start, ours.readable) == first.memory.read(start, ours.readable)


@pytest.mark.parametrize(("elf_class", "big_endian"), [(32, False), (32, True), (64, True)])
def test_other_classes_and_byte_orders(tmp_path: Path, elf_class: int, big_endian: bool) -> None:
    builder = CoreBuilder(elf_class, big_endian, machine=40 if elf_class == 32 else 183)
    builder.thread(3, pc=0x1234)
    builder.segment(0x1000, b"abcdef", memory_size=100)
    first = opened(tmp_path / "first", builder)
    second = rewritten(tmp_path / "second", first, list(first.memory.ranges()))
    assert second.header.big_endian is big_endian
    assert second.threads[0].registers["pc"] == 0x1234
    assert second.memory.read(HostAddress(0x1000), 6) == b"abcdef"


def test_a_part_of_the_memory(tmp_path: Path) -> None:
    first = opened(tmp_path / "first", process())
    second = rewritten(tmp_path / "second", first, [Range(PROGRAM + 3 * PAGE, PAGE, 4)])
    assert second.memory.read(HostAddress(PROGRAM + 3 * PAGE), 4) == b"data"
    assert second.size < 2000


def test_more_segments_than_the_header_can_count(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.segment(0, b"x" * 70_000)
    first = opened(tmp_path / "first", builder)
    ranges = [Range(address, 1, 1) for address in range(70_000)]
    path = tmp_path / "second"
    second = rewritten(path, first, ranges)
    assert second.header.phnum == 70_001
    assert len(second.memory.ranges()) == 70_000
    told = subprocess.run(
        ["readelf", "-Wh", str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"Number of program headers: +65535 \(70001\)", told)


def test_memory_that_is_not_there_is_not_invented(tmp_path: Path) -> None:
    first = opened(tmp_path / "first", process())
    with pytest.raises(MemoryFault):
        rewritten(tmp_path / "second", first, [Range(PROGRAM + PAGE, PAGE, PAGE)])
