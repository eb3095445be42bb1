from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vringcore.errors import FileError
from vringcore.memory.files import BLOCK_SIZE, MAX_BLOCKS, FileSource

CONTENT = bytes(index * 7 & 0xFF for index in range(3 * BLOCK_SIZE + 123))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("files") / "content"
    path.write_bytes(CONTENT)
    return str(path)


@given(st.integers(0, len(CONTENT) + 100), st.integers(0, 2 * BLOCK_SIZE + 100))
def test_a_read_equals_the_slice(path: str, offset: int, size: int) -> None:
    with FileSource.open(path) as source:
        assert source.read(offset, size) == CONTENT[offset : offset + size]


def test_the_end_of_the_file_reads_short_and_never_allocates_what_is_not_there(path: str) -> None:
    with FileSource.open(path) as source:
        assert source.size == len(CONTENT)
        assert source.read(len(CONTENT) - 3, 1 << 60) == CONTENT[-3:]
        assert source.read(1 << 70, 8) == b""
        assert source.read(0, 0) == b""


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as out:
        out.truncate(10 * MAX_BLOCKS * BLOCK_SIZE)
    with FileSource.open(str(path)) as source:
        for index in range(4 * MAX_BLOCKS):
            assert source.read(index * BLOCK_SIZE, 8) == bytes(8)
        assert len(source._blocks) == MAX_BLOCKS


def test_threads_read_the_same_file(path: str) -> None:
    with FileSource.open(path) as source, ThreadPoolExecutor(8) as pool:
        offsets = [(i * 997) % len(CONTENT) for i in range(4000)]
        for offset, data in zip(
            offsets, pool.map(lambda o: source.read(o, 40), offsets), strict=True
        ):
            assert data == CONTENT[offset : offset + 40]


def test_a_file_that_shrinks_reads_short(tmp_path: Path) -> None:
    path = tmp_path / "shrinks"
    path.write_bytes(CONTENT)
    with FileSource.open(str(path)) as source:
        os.truncate(path, BLOCK_SIZE + 5)
        assert source.read(0, len(CONTENT)) == CONTENT[: BLOCK_SIZE + 5]
        assert source.read(2 * BLOCK_SIZE, 8) == b""


def test_a_closed_source_refuses(path: str) -> None:
    source = FileSource.open(path)
    source.close()
    source.close()
    with pytest.raises(FileError):
        source.read(0, 4)


def test_a_refusal_of_the_system_is_our_error(path: str) -> None:
    with FileSource.open(path) as source, pytest.raises(FileError) as caught:
        source.read(-BLOCK_SIZE, 4)
    assert path in str(caught.value)


@pytest.mark.parametrize("name", ["//server/share/core", r"\\server\share\core"])
def test_network_paths_are_refused_unopened(name: str) -> None:
    with pytest.raises(FileError, match="network path"):
        FileSource.open(name, what="library")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    seen = {
        str(tmp_path): "a directory",
        str(fifo): "a FIFO",
        "/dev/null": "a character device",
    }
    for path, kind in seen.items():
        with pytest.raises(FileError) as caught:
            FileSource.open(path, what="core")
        assert kind in str(caught.value)
        assert "regular file" in str(caught.value)
    with pytest.raises(FileError):
        FileSource.open(str(tmp_path / "socket"))
    sock.close()


@pytest.mark.parametrize("name", ["/nonexistent/core", "nul\0inside"])
def test_what_cannot_be_opened_is_named(name: str) -> None:
    with pytest.raises(FileError, match="the executable cannot be opened"):
        FileSource.open(name, what="executable")
