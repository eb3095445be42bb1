from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from tests.elfcore.test_core import PAGE, PROGRAM, process
from vringcore.addresses import HostAddress
from vringcore.elfcore.core import open_elf_core
from vringcore.errors import CoreFormatError, FileError, LimitError

RAM = 0x7D00_0000_0000
RAM_SIZE = 64 << 20
NOISE = os.urandom(1 << 20)

Packer = Callable[[bytes], bytes]

# With the check sums that the command line tools write by default.
PACKERS: dict[str, Packer] = {
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
    "xz": lambda data: lzma.compress(data, preset=0),
    "gz": lambda data: gzip.compress(data, 1),
    "bz2": lambda data: bz2.compress(data, 1),
}


def image() -> bytes:
    """A core with 64 MiB of guest RAM in which only 1 MiB was ever written."""
    builder = process()
    builder.segment(RAM, bytes(RAM_SIZE // 2) + NOISE, file_size=RAM_SIZE)
    return builder.build()


IMAGE = image()


@pytest.fixture(scope="module", params=PACKERS)
def packed(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    return request.param, PACKERS[request.param](IMAGE)


def write(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "core.packed"
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    return path


def test_a_compressed_core_is_the_same_core(
    tmp_path: Path, scratch: Path, packed: tuple[str, bytes]
) -> None:
    path = write(tmp_path, packed[1])
    steps: list[tuple[int, int]] = []
    with open_elf_core(
        path, tmpdir=str(scratch), progress=lambda done, total: steps.append((done, total))
    ) as core:
        assert core.path == path
        assert core.size == len(IMAGE)
        assert core.source.read(0, len(IMAGE)) == IMAGE
        assert core.memory.read(HostAddress(PROGRAM + 3 * PAGE), 4) == b"data"
        assert core.problems == []
        # Zeros stay holes, and no name is left for anyone to open.
        assert os.fstat(core.source._fd).st_blocks * 512 < 4 << 20
        assert list(scratch.iterdir()) == []
    assert steps == sorted(steps)
    assert steps[-1] == (len(packed[1]), len(packed[1]))


def test_streams_one_behind_the_other(
    tmp_path: Path, scratch: Path, packed: tuple[str, bytes]
) -> None:
    pack = PACKERS[packed[0]]
    half = len(IMAGE) // 2
    path = write(tmp_path, pack(IMAGE[:half]) + pack(IMAGE[half:]))
    with open_elf_core(path, tmpdir=str(scratch)) as core:
        assert core.source.read(0, len(IMAGE)) == IMAGE


def test_a_compressed_file_that_is_cut_gives_what_is_there(
    tmp_path: Path, scratch: Path, packed: tuple[str, bytes]
) -> None:
    path = write(tmp_path, packed[1][: len(packed[1]) * 3 // 4])
    with open_elf_core(path, tmpdir=str(scratch)) as core:
        assert core.truncated
        assert core.size < len(IMAGE)
        assert IMAGE.startswith(core.source.read(0, core.size))
        assert core.threads
        # libzstd's reader takes a cut for an end; the core's own headers know better.
        if packed[0] != "zst":
            assert "cut or damaged" in str(core.problems[0])


def test_one_that_is_cut_at_once_is_not_called_empty(
    tmp_path: Path, scratch: Path, packed: tuple[str, bytes]
) -> None:
    path = write(tmp_path, packed[1][:10])
    with pytest.raises(CoreFormatError, match="cut before its first byte") as caught:
        open_elf_core(path, tmpdir=str(scratch))
    assert path in str(caught.value)
    assert caught.value.hint == "copy it again"


def test_damage_in_the_middle_gives_what_came_before(
    tmp_path: Path, scratch: Path, packed: tuple[str, bytes]
) -> None:
    middle = len(packed[1]) // 2
    data = packed[1][:middle] + bytes(200) + packed[1][middle + 200 :]
    path = write(tmp_path, data)
    with open_elf_core(path, tmpdir=str(scratch)) as core:
        assert core.threads
        # The check sum at the end may be all that tells; then every byte has been written.
        assert core.problems or core.truncated
        assert core.source.read(0, PAGE) == IMAGE[:PAGE]


def test_what_unpacks_to_too_much_is_stopped(
    tmp_path: Path, scratch: Path, packed: tuple[str, bytes]
) -> None:
    path = write(tmp_path, packed[1])
    with pytest.raises(LimitError, match="--max-unpacked"):
        open_elf_core(path, tmpdir=str(scratch), max_unpacked=10 << 20)
    assert list(scratch.iterdir()) == []


def test_a_small_file_of_nothing_but_zeros_is_stopped_at_the_limit(
    tmp_path: Path, scratch: Path
) -> None:
    path = tmp_path / "zeros.zst"
    with path.open("wb") as out, zstandard.ZstdCompressor().stream_writer(out) as packer:
        for _ in range(1024):
            packer.write(bytes(1 << 20))
    with pytest.raises(LimitError):
        open_elf_core(str(path), tmpdir=str(scratch), max_unpacked=256 << 20)
    with pytest.raises(CoreFormatError, match="not an ELF file"):
        open_elf_core(str(path), tmpdir=str(scratch))


def test_compressed_text_is_no_core(
    tmp_path: Path, scratch: Path, packed: tuple[str, bytes]
) -> None:
    path = write(tmp_path, PACKERS[packed[0]](b"just a text, packed"))
    with pytest.raises(CoreFormatError, match="just a text"):
        open_elf_core(path, tmpdir=str(scratch))


def test_no_room_names_the_directory_and_the_option(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(b"x"))
    with pytest.raises(FileError, match="--tmpdir"):
        open_elf_core(path, tmpdir=str(tmp_path / "nowhere"))


def test_a_nearly_full_file_system_is_left_alone(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vringcore.elfcore.compressed._KEEP_FREE", 1.0)
    path = write(tmp_path, gzip.compress(IMAGE[:PAGE]))
    with pytest.raises(FileError, match="no room"):
        open_elf_core(path, tmpdir=str(scratch))
