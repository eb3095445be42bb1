"""Archives with any bytes wrong: members before the damage, a problem, and never an exception."""

from __future__ import annotations

import random
import zipfile
from functools import cache
from pathlib import Path

import pytest

from tests.scan import cores
from vringcore.errors import VringcoreError
from vringcore.scan import recognise
from vringcore.scan.archives import Archives
from vringcore.scan.place import Place
from vringcore.scan.sources import Held, open_place

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


@pytest.mark.parametrize("kind", KINDS)
def test_cut(kind: str, directory: Path) -> None:
    whole = archive(kind, directory)
    for seed in range(60):
        assert walk(whole[: random.Random(seed).randrange(len(whole))]) <= len(NAMES)


def test_a_member_that_unpacks_to_too_much(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("core", cores.unpacked("10.0/idle")[:4096] + bytes(64 << 20))
    data = path.read_bytes()
    place = Place("a", size=len(data), data=data)
    (found,) = Archives().members(place, Held(data, "a"), recognise.ZIP)
    stored = Place(
        str(path), offset=found.place.offset, length=found.place.length, packing="deflate"
    )
    with pytest.raises(VringcoreError, match="more than is allowed"):
        open_place(stored, {}, 1 << 20)
