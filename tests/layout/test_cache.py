"""The cache on disk: found again, never trusted, never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vringcore.layout.bundle import Bundle
from vringcore.layout.cache import LayoutCache
from vringcore.layout.types import Symbol

BUILD_ID = "0123456789abcdef" * 2


@pytest.fixture
def cache(tmp_path: Path) -> LayoutCache:
    return LayoutCache(str(tmp_path / "cache" / "vringcore"))


def a_bundle() -> Bundle:
    return Bundle(build_id=BUILD_ID, symbols={"main": Symbol("main", 16, 4)})


def test_what_was_written_is_found(cache: LayoutCache) -> None:
    log: list[str] = []
    assert cache.read(BUILD_ID, log) is None
    assert cache.write(a_bundle()) == ""
    found = cache.read(BUILD_ID, log)
    assert found is not None
    assert found.symbols == a_bundle().symbols
    assert log == []
    assert os.listdir(cache.directory) == [os.path.basename(cache.path(BUILD_ID))]
    assert os.stat(cache.directory).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 100, b'{"schema":"other/1"}'])
def test_a_damaged_file_is_ignored_and_written_anew(cache: LayoutCache, content: bytes) -> None:
    cache.write(a_bundle())
    Path(cache.path(BUILD_ID)).write_bytes(content)
    log: list[str] = []
    assert cache.read(BUILD_ID, log) is None
    assert len(log) == 1
    assert cache.write(a_bundle()) == ""
    assert cache.read(BUILD_ID, log) is not None


def test_a_file_of_another_build_is_ignored(cache: LayoutCache) -> None:
    cache.write(a_bundle())
    other = "f" * 32
    os.rename(cache.path(BUILD_ID), cache.path(other))
    log: list[str] = []
    assert cache.read(other, log) is None
    assert BUILD_ID in log[0]


@pytest.mark.parametrize("build_id", ["", "../../etc/passwd", "ab/cd", "AB" * 20, "a" * 500, "abc"])
def test_what_is_no_build_id_names_no_file(cache: LayoutCache, build_id: str) -> None:
    log: list[str] = []
    assert cache.read(build_id, log) is None
    assert cache.write(Bundle(build_id=build_id)) != ""
    assert not os.path.exists(cache.directory)


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = LayoutCache(str(tmp_path / "file" / "cache"))
    assert "cannot be written" in cache.write(a_bundle())
    log: list[str] = []
    assert cache.read(BUILD_ID, log) is None
    assert len(log) == 1


def test_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def place() -> str:
        cache = LayoutCache.default()
        assert cache is not None
        return cache.directory

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert place() == str(tmp_path / "xdg" / "vringcore")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert place() == str(tmp_path / ".cache" / "vringcore")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert place() == str(tmp_path / ".cache" / "vringcore")
