"""Archives with any bytes wrong: members before the damage, a problem, and never an exception."""

from __future__ import annotations

import os
import random
import zipfile
from functools import cache
from pathlib import Path

import pytest

from tests.scan import cores
from vringcore.errors import VringcoreError
from vringcore.scan import recognise
from vringcore.scan.access import open_place
from vringcore.scan.archives import Archives
from vringcore.scan.place import Place
from vringcore.scan.scratch import forget
from vringcore.scan.sources import Held, Part

KINDS = ("tar", "tar.gz", "zip", "nested")
NAMES = ["10.0/idle", "10.0/stuck"]


@cache
def archive(kind: str, directory: Path) -> bytes:
    path = directory / f"a.{kind}"
    if kind == "zip":
        cores.zipped(path, NAMES, zipfile.ZIP_DEFLATED)
    elif kind == "nested":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as outer:
            outer.write(cores.tar(directory / "inner.tar", NAMES), "inner.tar")
    else:
        cores.tar(path, NAMES, "w:gz" if kind == "tar.gz" else "w")
    return path.read_bytes()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def walk(data: bytes) -> int:
    """Go through an archive as a scan does; return how many members were cores."""
    place = Place("a", size=len(data), data=data)
    source = Held(data, "a")
    kind = recognise.kind_of(source)
    if kind not in recognise.ARCHIVES:
        return 0
    count = 0
    for found in Archives(max_unpacked=8 << 20).members(place, source, kind):
        count += not found.problem and not found.skipped
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_bytes(kind: str, directory: Path) -> None:
    whole = archive(kind, directory)
    assert walk(whole) == len(NAMES)
    for seed in range(150):
        chance = random.Random(seed)
        data = bytearray(whole)
        # Headers lie at the ends and between the members: most flips go there.
        spots = [chance.randrange(600), -chance.randrange(1, 600), chance.randrange(len(data))]
        for _ in range(chance.randrange(1, 4)):
            data[chance.choice(spots)] = chance.randrange(256)
        assert walk(bytes(data)) <= len(NAMES)


@pytest.mark.parametrize(
    ("method", "place", "wrong"),
    [
        pytest.param(zipfile.ZIP_LZMA, (200, 300), bytes(100), id="a stream that is no LZMA"),
        pytest.param(zipfile.ZIP_STORED, (-46, -45), b"\0", id="a member without a name"),
    ],
)
def test_what_else_the_library_raises(
    tmp_path: Path, method: int, place: tuple[int, int], wrong: bytes
) -> None:
    """Not only what it says that it does: of a damaged archive nobody else's core is lost."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("x" * 24, cores.dump("10.0/idle").read_bytes())
    whole = path.read_bytes()
    assert walk(whole) == 1
    data = bytearray(whole)
    data[slice(*place)] = wrong
    assert walk(bytes(data)) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_cut(kind: str, directory: Path) -> None:
    whole = archive(kind, directory)
    for seed in range(60):
        assert walk(whole[: random.Random(seed).randrange(len(whole))]) <= len(NAMES)


def bomb(path: Path, method: int, declared: int | None = None) -> Path:
    """Write a zip archive of one core of 64 MiB that packs to little; it may say it is smaller."""
    core = cores.unpacked("10.0/idle")[:4096] + bytes(64 << 20)
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("core", core)
        if declared is not None:
            made.infolist()[0].file_size = declared  # the directory says so, at the end
    return path


def unpacked_size(path: Path, limit: int | None = None, tmpdir: str | None = None) -> int:
    """Go through an archive of one core as a scan does, to its last byte."""
    place = Place(str(path), size=path.stat().st_size)
    with open_place(place, {}) as source:
        (found,) = Archives(tmpdir, limit).members(place, source, recognise.ZIP)
    if found.problem:
        raise ValueError(found.problem)
    with open_place(found.place, {}, limit, tmpdir) as core:
        forget(found.place.scratch)
        return core.size


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_unpacks_to_too_much(tmp_path: Path, method: int) -> None:
    path = bomb(tmp_path / "bomb.zip", method)
    assert unpacked_size(path) == 4096 + (64 << 20)
    with pytest.raises((VringcoreError, ValueError), match="more than is allowed"):
        unpacked_size(path, 1 << 20)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_unpacks_to_more_than_its_archive_says(tmp_path: Path, method: int) -> None:
    path = bomb(tmp_path / "bomb.zip", method, 5000)
    if method == zipfile.ZIP_DEFLATED:
        with pytest.raises(VringcoreError, match="more than its archive says"):
            unpacked_size(path)
    else:
        with pytest.raises(ValueError, match="archive could not be read to its end"):
            unpacked_size(path)


def test_zeros_that_were_unpacked_take_no_room(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.zip", zipfile.ZIP_DEFLATED)
    place = Place(str(path), size=path.stat().st_size)
    with open_place(place, {}) as source:
        (found,) = Archives().members(place, source, recognise.ZIP)
    with open_place(found.place, {}, tmpdir=str(tmp_path)) as core:
        assert isinstance(core, Part)
        assert os.fstat(core.fileno()).st_blocks * 512 < 1 << 20
