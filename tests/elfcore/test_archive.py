"""Cores in tar archives, chosen by content or by name, out of honest archives and hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard

from tests.elfcore.test_compressed import PACKERS
from tests.elfcore.test_core import process
from vringcore.elfcore.archive import cores_in, is_tar, open_packed, split_member
from vringcore.elfcore.core import open_elf_core
from vringcore.errors import CoreFormatError, FileError, LimitError, UsageError, VringcoreError
from vringcore.memory.files import FileSource

RAM = 0x7D00_0000_0000
NAME = "var/spool/abrt/core.20873"
OTHERS = {"sos/etc/hosts": b"127.0.0.1 localhost\n", "sos/version": b"sosreport: 4.5\n" * 5000}


def image() -> bytes:
    builder = process()
    builder.segment(RAM, bytes(1 << 20) + os.urandom(1 << 18), file_size=4 << 20)
    return builder.build()


IMAGE = image()


def tar(*members: tuple[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sosreport(*cores: tuple[str, bytes]) -> bytes:
    others = list(OTHERS.items())
    return tar(others[0], *cores, others[1])


def write(tmp_path: Path, data: bytes, name: str = "sos.tar") -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def scratch(tmp_path: Path) -> str:
    path = tmp_path / "scratch"
    path.mkdir()
    return str(path)


def content(path: str, scratch: str, member: str | None = None) -> bytes:
    with open_elf_core(path, member=member, tmpdir=scratch) as core:
        assert core.problems == []
        assert core.threads
        assert os.listdir(scratch) == []
        return core.source.read(0, core.size)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_the_one_core_of_an_archive_is_read_where_it_lies(
    tmp_path: Path, scratch: str, form: int
) -> None:
    path = write(tmp_path, tar(("a.txt", b"text"), (NAME, IMAGE), form=form))
    assert content(path, scratch) == IMAGE
    with open_elf_core(path) as core:
        assert core.path == f"{path}:{NAME}"


@pytest.mark.parametrize("packing", PACKERS)
def test_a_compressed_archive(tmp_path: Path, scratch: str, packing: str) -> None:
    path = write(tmp_path, PACKERS[packing](sosreport((NAME, IMAGE))))
    assert content(path, scratch) == IMAGE
    assert content(path, scratch, NAME) == IMAGE
    assert content(f"{path}:{NAME}", scratch) == IMAGE
    assert content(f"{path}!./{NAME}", scratch) == IMAGE


@pytest.mark.parametrize("packing", PACKERS)
def test_a_compressed_core_in_an_archive(tmp_path: Path, scratch: str, packing: str) -> None:
    packed = PACKERS[packing](IMAGE)
    path = write(tmp_path, sosreport((f"{NAME}.{packing}", packed)))
    assert content(path, scratch) == IMAGE
    path = write(tmp_path, gzip.compress(sosreport((f"{NAME}.{packing}", packed))))
    assert content(path, scratch) == IMAGE


@pytest.mark.skipif(not shutil.which("tar"), reason="needs tar")
@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_an_archive_of_sparse_files_as_tar_makes_it(
    tmp_path: Path, scratch: str, form: str
) -> None:
    sparse = process()
    for index in range(40):  # more extents than one header holds
        sparse.segment(RAM + (index << 24), os.urandom(5000), file_size=1 << 20)
    sparse.write(tmp_path / "core.1")
    path = tmp_path / "cores.tar.gz"
    command = ["tar", "-C", str(tmp_path), "-Sczf", str(path), f"--format={form}", "core.1"]
    subprocess.run(command, check=True)
    with tarfile.open(path) as archive:
        assert archive.getmembers()[0].issparse()
    with open_elf_core(str(path), tmpdir=scratch) as core:
        assert core.source.read(0, core.size) == sparse.build()
        # Its holes are not written.
        assert os.fstat(core.source._fd).st_blocks * 512 < core.size / 8


def test_several_cores_are_listed_and_one_can_be_chosen(tmp_path: Path, scratch: str) -> None:
    other = process().build()
    second = ("core.2.zst", zstandard.compress(other))
    path = write(tmp_path, gzip.compress(sosreport((NAME, IMAGE), second)), "sos.tgz")
    with pytest.raises(UsageError) as caught:
        open_elf_core(path, tmpdir=scratch)
    assert NAME in caught.value.seen
    assert "core.2.zst" in caught.value.seen
    assert f"{path}:{NAME}" in caught.value.hint
    assert content(f"{path}:core.2.zst", scratch) == other
    with pytest.raises(UsageError, match="no such member") as caught:
        open_elf_core(f"{path}:core.3", tmpdir=scratch)
    assert NAME in caught.value.expected
    with FileSource.open(path) as source:
        assert [core.name for core in cores_in(source)] == [NAME, "core.2.zst"]


def test_an_archive_without_cores_says_so(tmp_path: Path, scratch: str) -> None:
    path = write(tmp_path, sosreport(("core.txt", b"\x7fELF and nothing more")))
    with pytest.raises(UsageError, match="holds no core"):
        open_elf_core(path, tmpdir=scratch)


def test_a_member_of_a_file_that_is_no_archive(tmp_path: Path) -> None:
    path = write(tmp_path, IMAGE, "core.1")
    with pytest.raises(UsageError, match="no archive"):
        open_elf_core(path, member="core")
    with pytest.raises(FileError):
        open_elf_core(str(tmp_path / "nothing:here"))


def test_a_file_with_a_colon_in_its_name_is_that_file(tmp_path: Path, scratch: str) -> None:
    path = write(tmp_path, IMAGE, "core:1")
    assert split_member(path) == (path, None)
    assert content(path, scratch) == IMAGE


@pytest.mark.parametrize("place", [0.3, 0.9])
def test_an_archive_cut_within_the_core_gives_what_is_there(
    tmp_path: Path, scratch: str, place: float
) -> None:
    whole = tar(("a", b"x"), (NAME, IMAGE))
    for name, data in (("a.tar", whole), ("a.tar.gz", gzip.compress(whole, 1))):
        path = write(tmp_path, data[: int(len(data) * place)], name)
        with open_elf_core(path, tmpdir=scratch) as core:
            assert core.truncated
            assert core.problems
            assert core.threads
            assert IMAGE.startswith(core.source.read(0, core.size))


# Hostile archives


def test_names_lead_nowhere(tmp_path: Path, scratch: str) -> None:
    outside = tmp_path / "outside"
    for name in ("../outside", str(outside), "./../outside", "a/../../outside"):
        path = write(tmp_path, gzip.compress(tar((name, IMAGE))))
        assert content(path, scratch) == IMAGE
        assert not outside.exists()


def test_links_and_devices_are_no_cores(tmp_path: Path, scratch: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("core.1")
            info.type, info.linkname = kind, "/proc/kcore"
            archive.addfile(info)
    path = write(tmp_path, out.getvalue())
    for member in (None, "core.1"):
        with pytest.raises(UsageError):
            open_elf_core(path, member=member, tmpdir=scratch)


def test_a_member_that_unpacks_to_too_much_is_stopped(tmp_path: Path, scratch: str) -> None:
    path = write(tmp_path, gzip.compress(sosreport((NAME, IMAGE))))
    with pytest.raises(LimitError, match="--max-unpacked"):
        open_elf_core(path, tmpdir=scratch, max_unpacked=1 << 20)
    assert os.listdir(scratch) == []


def test_a_hole_of_exabytes_is_stopped(tmp_path: Path, scratch: str) -> None:
    info = tarfile.TarInfo("core.1")
    numbers = f"2\n0\n512\n{1 << 60}\n0\n".encode().ljust(512, b"\0")
    info.size = len(numbers) + 512
    info.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0",
        "GNU.sparse.name": "core.1", "GNU.sparse.realsize": str(1 << 60),
    }  # fmt: skip
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(numbers + IMAGE[:512]))
    path = write(tmp_path, out.getvalue())
    with pytest.raises(LimitError):
        open_elf_core(path, tmpdir=scratch)
    assert os.listdir(scratch) == []


def test_a_header_that_asks_for_gigabytes_takes_no_memory(tmp_path: Path, scratch: str) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    path = write(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + b"9 path=a\n" * 100)
    tracemalloc.start()
    with pytest.raises(VringcoreError):
        open_elf_core(path, tmpdir=scratch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("packing", [None, "zst"])
def test_any_damage_is_told(tmp_path: Path, scratch: str, packing: str | None) -> None:
    whole = sosreport((NAME, IMAGE))
    places = [*range(0, 1600, 41), *range(1600, len(whole), len(whole) // 20)]
    for place in places:
        data = whole[:place] + b"\xff\x80\0" + whole[place + 3 :]
        path = write(tmp_path, PACKERS[packing](data) if packing else data)
        with suppress(CoreFormatError, UsageError, LimitError):
            open_elf_core(path, tmpdir=scratch).close()


def test_what_is_a_tar_and_what_is_not(tmp_path: Path) -> None:
    for data, answer in (
        (tar(("a", b"b")), True),
        (gzip.compress(tar(("a", b"b"))), True),
        (IMAGE, False),
        (gzip.compress(IMAGE), False),
        (b"", False),
        (bytes(2000), False),
        (b"plain text" * 200, False),
        (gzip.compress(b"x")[:12], False),
    ):
        with FileSource.open(write(tmp_path, data)) as source:
            assert is_tar(source) is answer


def test_an_open_archive_can_be_told_its_cores_by_others(tmp_path: Path, scratch: str) -> None:
    source, problems = open_packed(write(tmp_path, sosreport((NAME, IMAGE))), tmpdir=scratch)
    with source:
        assert (source.size, problems) == (len(IMAGE), [])
