"""Whatever lies in a tree of cores, a scan ends, and what it could not read it says."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests import test_hosts
from tests.cli.command import ROOT
from tests.scan import cores
from tests.scan.cores import member
from vringcore.errors import EXIT_PARTIAL, EXIT_UNREADABLE, EXIT_USAGE, FileError, UsageError
from vringcore.model.scan import ScanRow
from vringcore.model.values import encode
from vringcore.scan.journal import Journal, read_rows
from vringcore.scan.place import Place, Settings
from vringcore.scan.worker import Worker

NOBODY = 65534


def scanned(*paths: Path | str, **settings: Any) -> tuple[list[ScanRow], dict[str, int]]:
    with vringcore.scan(*map(str, paths), workers=1, cache=False, why=False, **settings) as found:
        return list(found), dict(found.skipped)


def scan_process(
    *words: str | Path, python: str = sys.executable, **how: Any
) -> subprocess.Popen[str]:
    command = [python, "-m", "vringcore", "scan", *map(str, words), "--no-why"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, "--no-cache"], cwd=ROOT, text=True, **pipes, **how)


def error_of(row: ScanRow) -> str:
    assert row.error is not None
    return f"{row.error.code}: {row.error.message}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_is_no_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    directory = cores.copies(tmp_path / "cores", ["10.0/idle"])
    os.mkfifo(directory / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "socket"))
        (directory / "dangling").symlink_to("nowhere")
        (directory / "loop").symlink_to("loop")
        (directory / "above").symlink_to("..")
        rows, skipped = scanned(directory)
        assert [row.error for row in rows] == [None]
        assert skipped == {"no core": 1, "no regular file": 4}
        named = [directory / name for name in ("fifo", "socket", "dangling", "loop")]
        rows, skipped = scanned(*named)
    assert skipped == {}
    assert [error_of(row) for row in rows] == [
        f"file: a FIFO is no file with a core: {named[0]}",
        f"file: a socket is no file with a core: {named[1]}",
        f"file: No such file or directory: {named[2]}",
        f"file: Too many levels of symbolic links: {named[3]}",
    ]


def test_one_file_by_several_paths_has_one_row(tmp_path: Path) -> None:
    directory = cores.copies(tmp_path / "cores", ["10.0/idle"])
    core = directory / member("10.0/idle")
    os.link(core, directory / "zz-linked")
    (tmp_path / "link").symlink_to(core)
    (tmp_path / "all").symlink_to(directory)
    roundabout = f"{directory}/../cores/{core.name}"
    rows, skipped = scanned(directory, roundabout, tmp_path / "link", tmp_path / "all")
    assert [row.path for row in rows] == [str(core)]
    assert skipped["the same file by another path"] == 6  # the notes are found twice, too


def test_a_pattern_through_a_loop_of_links(tmp_path: Path) -> None:
    directory = cores.copies(tmp_path / "cores", ["10.0/idle"])
    (directory / "loop").symlink_to(".")
    rows, _ = scanned(f"{directory}/**/*.core")
    assert [row.error for row in rows] == [None]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of Unix")
def test_what_may_not_be_read_is_a_row(tmp_path: Path) -> None:
    directory = cores.copies(tmp_path / "cores", ["10.0/idle", "10.0/stuck"])
    closed = directory / "closed"
    closed.mkdir()
    (directory / member("10.0/stuck")).chmod(0)
    closed.chmod(0)
    how: dict[str, Any] = {}
    if os.geteuid() == 0:  # whom nothing is forbidden
        how = {"user": NOBODY, "group": NOBODY, "extra_groups": (), "python": "/usr/bin/python3"}
        how["env"] = {"PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}", "PATH": "/usr/bin"}
        for parent in (directory, *directory.parents):
            if Path(tempfile.gettempdir()) in parent.parents:
                parent.chmod(0o755)
        tried = scan_process(directory / member("10.0/idle"), "--json", **how)
        if '"error":null' not in tried.communicate()[0].replace(": ", ":"):
            pytest.skip("another user cannot run vringcore, or see this directory")
    run = scan_process(directory, "--json", **how)
    told, complaints = run.communicate()
    assert (run.returncode, complaints) == (EXIT_PARTIAL, "")
    assert sorted(line.count("Permission denied") > 0 for line in told.splitlines()) == [
        False,
        True,
        True,
    ]
    assert f"the directory cannot be read: Permission denied: {closed}" in told


def test_archives_deeper_than_one_in_another_are_rows(tmp_path: Path) -> None:
    first = cores.tar(tmp_path / "a.tar", ["10.0/idle"])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as second:
        second.write(first, "a.tar")
        second.write(cores.dump("10.0/stuck"), "seen")
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as third:
        third.add(tmp_path / "b.zip", "b.zip")
    rows, _ = scanned(tmp_path / "c.tar.gz")
    by_member = {row.member: row for row in rows}
    assert set(by_member) == {"b.zip!a.tar", "b.zip!seen"}
    assert by_member["b.zip!seen"].error is None
    assert error_of(by_member["b.zip!a.tar"]).startswith("archive: an archive within an archive")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_packed_zip_in_a_packed_tar(tmp_path: Path, method: int) -> None:
    inner = cores.zipped(tmp_path / "inner.zip", ["10.0/idle", "10.0/stuck"], method, raw=True)
    with tarfile.open(tmp_path / "outer.tar.xz", "w:xz") as outer:
        outer.add(inner, "inner.zip")
    rows, skipped = scanned(tmp_path / "outer.tar.xz")
    assert [row.error for row in rows] == [None, None]
    assert skipped == {"no core": 1}


def test_a_core_that_is_written_to_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(cores.unpacked("10.0/idle")[:-5000])
    status = path.stat()
    found = Place(str(path), size=status.st_size, modified=round(status.st_mtime, 3))
    path.write_bytes(cores.unpacked("10.0/idle"))
    worker = Worker(Settings(why=False, cache=False))
    row = worker.row(found)
    assert error_of(row).startswith("changed: the core was written to while it was scanned")
    assert row.vm_name is None
    assert row.counts is not None
    later = path.stat()
    found = Place(str(path), size=later.st_size, modified=round(later.st_mtime, 3))
    assert worker.row(found).error is None


def limited(size: int) -> Any:
    """Return what lets a process write files of so many bytes alone, as a full disk would."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_no_room_for_the_rows(tmp_path: Path) -> None:
    """What was written stands, and the next scan goes on where there is room."""
    directory = cores.copies(tmp_path / "cores")
    out = tmp_path / "rows"
    run = scan_process(directory, "-o", out, preexec_fn=limited(2500))
    _, complaint = run.communicate()
    assert run.returncode == EXIT_UNREADABLE
    assert "the rows cannot be written" in complaint
    assert "--resume goes on" in complaint
    assert 0 < len(list(read_rows(str(out)))) < len(cores.CODES)
    # Where there was no room for the rows, there was none to unpack a core either.
    run = scan_process(directory, "-o", out, "--resume", "--retry-failed")
    assert (run.communicate()[1], run.returncode) == ("", 0)
    assert len(out.read_text().splitlines()) == len(cores.CODES)


def test_an_archive_that_is_whole_at_last_is_no_error_any_more(tmp_path: Path) -> None:
    """It was still being copied; a damaged member beside stays one."""
    whole = cores.tar(tmp_path / "whole", ["10.0/idle", "10.0/stuck"]).read_bytes()
    path, out = tmp_path / "a.tar", tmp_path / "rows"
    path.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole").unlink()
    (tmp_path / "cut").write_bytes(b"\x7fELF")

    def codes(**how: bool) -> dict[tuple[str, str], str]:
        words = [str(tmp_path / name) for name in ("a.tar", "cut")]
        scanned(*words, out=str(out), **how)
        rows = list(read_rows(str(out)))
        assert rows == sorted(rows, key=lambda row: row.key)
        return {
            (Path(row.path).name, row.member): row.error.code if row.error else "" for row in rows
        }

    cut = {("cut", ""): "core-format"}
    before = codes()
    assert before["a.tar", ""] == "archive"
    assert codes(resume=True) == before
    path.write_bytes(whole)
    both = {("a.tar", member(name)): "" for name in ("10.0/idle", "10.0/stuck")}
    assert codes(resume=True, retry_failed=True) == both | cut


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such names")
def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    """Of a file, of a member, of what cannot be read, and of what -o goes on with."""
    directory, out = tmp_path / "cores", tmp_path / "rows"
    directory.mkdir()
    odd = os.fsdecode(b"c\xffre")
    (directory / odd).write_bytes(cores.dump("10.0/idle").read_bytes())
    (directory / f"{odd}-cut").write_bytes(b"\x7fELF")
    with tarfile.open(directory / "a.tar", "w") as archive:
        archive.add(cores.dump("10.0/idle"), odd)
    (directory / "gone").symlink_to(f"{odd}-gone")
    words = [str(directory), str(directory / "gone")]
    rows, _ = scanned(*words, out=str(out))
    told = {(Path(row.path).name, row.member): row.error and row.error.code for row in rows}
    assert told == {
        ("a.tar", r"c\udcffre"): None,
        (r"c\udcffre", ""): None,
        (r"c\udcffre-cut", ""): "core-format",
        ("gone", ""): "file",
    }
    assert scanned(*words, out=str(out), resume=True)[0] == []


def test_no_room_to_put_rows_in_order(tmp_path: Path) -> None:
    (row,), _ = scanned(cores.dump("10.0/idle"))
    out = tmp_path / "rows"
    with Journal(str(out)) as journal:
        for path in ("b", "a"):
            changed = {name: getattr(row, name) for name in row.__struct_fields__} | {"path": path}
            journal.add(ScanRow(**changed))
        (tmp_path / "rows.tmp").mkdir()  # nothing can be written there
        with pytest.raises(FileError, match="cannot be put in order"):
            journal.finish()
        (tmp_path / "rows.tmp").rmdir()
    assert [row.path for row in read_rows(str(out))] == ["b", "a"]
    with Journal(str(out), resume=True) as journal:
        journal.finish()
    assert [row.path for row in read_rows(str(out))] == ["a", "b"]
    assert os.listdir(tmp_path) == ["rows"]


ON_WINDOWS = (
    "import os"
    + test_hosts.WITHOUT_UNIX
    + """
from vringcore.scan.journal import Journal, read_rows, row_of
replace = os.replace
def closed_alone(source, target):
    for name in os.listdir("/proc/self/fd"):
        if os.path.realpath("/proc/self/fd/" + name) == os.path.realpath(target):
            raise PermissionError(13, "it is open")
    replace(source, target)
os.replace = closed_alone
sys.platform = "win32"
with Journal(sys.argv[2]) as journal:
    for line in open(sys.argv[1], "rb"):
        journal.add(row_of(line, ""))
    journal.finish()
print([row.path for row in read_rows(sys.argv[2])])
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="finds what is open in /proc")
def test_rows_are_kept_and_ordered_on_windows(tmp_path: Path) -> None:
    """It has no pread, and replaces no file that is open."""
    (row,), _ = scanned(cores.dump("10.0/idle"))
    changed = json.loads(encode(row))
    given = [json.dumps(changed | {"path": path}) for path in ("b", "a")]
    (tmp_path / "given").write_text("\n".join(given))
    words = [str(tmp_path / "given"), str(tmp_path / "rows")]
    done = test_hosts.run(ON_WINDOWS, *words)
    assert (done.stdout, done.stderr) == (b"['a', 'b']\n", b"")


@pytest.mark.parametrize("ending", ["parquet", "duckdb", "sqlite", "csv"])
def test_no_room_for_an_export(tmp_path: Path, ending: str) -> None:
    out, export = tmp_path / "rows", tmp_path / f"rows.{ending}"
    (tmp_path / "out").mkdir()
    run = scan_process(
        *(cores.dump("10.0/idle"), "-o", out, "--export", export),
        preexec_fn=limited(
            5000 if ending in ("sqlite", "duckdb") else 100 if ending != "csv" else 900
        ),
    )
    _, complaint = run.communicate()
    assert run.returncode == EXIT_UNREADABLE, complaint
    assert complaint.startswith("vringcore: error: ")
    assert not export.exists()


def test_rows_go_to_regular_files_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), os.devnull):
        with pytest.raises(UsageError, match="regular file alone"):
            Journal(path)
    with pytest.raises(FileError, match="Is a directory"):
        Journal(str(tmp_path))


def test_a_link_to_the_rows_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "rows"
    link.symlink_to(tmp_path / "elsewhere" / "rows")
    directory = cores.copies(tmp_path / "cores", ["10.0/idle", "10.0/stuck"])
    scanned(directory, out=str(link))
    assert link.is_symlink()
    assert len(list(read_rows(str(link)))) == 2


def test_scans_that_write_to_one_file_at_once(tmp_path: Path) -> None:
    """One goes on, the others are refused, and each core has one row, whoever came when."""
    directory, out = cores.copies(tmp_path / "cores"), tmp_path / "rows"
    codes = set()
    for _ in range(3):
        runs = [scan_process(directory, "-o", out, "--resume") for _ in range(3)]
        for run in runs:
            complaint = run.communicate()[1]
            codes.add(run.returncode)
            assert run.returncode == 0 or "another scan writes to this file" in complaint
        assert len(out.read_text().splitlines()) == len(cores.CODES)
        out.unlink()
    assert codes <= {0, EXIT_USAGE}


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name that others can open")
def test_a_scan_that_is_killed_leaves_nothing_unpacked(tmp_path: Path) -> None:
    large = cores.unpacked("10.0/stuck") + os.urandom(6 << 20)
    (tmp_path / "large").write_bytes(large)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=1) as archive:
        for number in range(6):
            archive.add(tmp_path / "large", f"core.{number}")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    out = tmp_path / "rows"
    words = (tmp_path / "a.tar.gz", "-o", out, "--resume", "--tmpdir", scratch, "--workers", "1")
    run = scan_process(*words)
    end = time.monotonic() + 60
    while (
        run.poll() is None and time.monotonic() < end and not (out.exists() and out.stat().st_size)
    ):
        time.sleep(0.005)
    run.kill()
    run.communicate()
    assert os.listdir(scratch) == []
    run = scan_process(*words)
    assert (run.communicate()[1], run.returncode) == ("", 0)
    assert [row.member for row in read_rows(str(out))] == [f"core.{n}" for n in range(6)]
    assert os.listdir(scratch) == []
