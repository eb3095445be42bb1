"""An output file is there whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard

from vringcore.errors import FileError
from vringcore.slim import output
from vringcore.slim.output import whole_file

NAMED = pytest.mark.parametrize("named", [False, True], ids=["O_TMPFILE", "named"])


@pytest.fixture
def kind(named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a scratch file with a name, as on file systems that know no other."""
    if named:
        monkeypatch.delattr(output.os, "O_TMPFILE", raising=False)


@NAMED
@pytest.mark.usefixtures("kind")
def test_it_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("before")
    with whole_file(str(out)) as file:
        file.write(b"new")
        assert out.read_text() == "before"
    assert out.read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]
    assert out.stat().st_mode & 0o777 == 0o600


@NAMED
@pytest.mark.usefixtures("kind")
def test_a_failure_leaves_nothing_new(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), whole_file(str(out)) as file:
        file.write(b"half"[: 1 // 0])
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from vringcore.slim.output import whole_file\n"
        "with whole_file(sys.argv[1]) as file:\n"
        " file.write(b'half' * 10000); file.flush(); print('now', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"now\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    time.sleep(0.05)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []
    if hasattr(os, "O_TMPFILE"):
        assert list(tmp_path.iterdir()) == []


def test_a_packed_one_is_zstandard(tmp_path: Path) -> None:
    out = tmp_path / "out.zst"
    with whole_file(str(out)) as file:
        file.write(b"content" * 100)
    assert zstandard.ZstdDecompressor().decompress(out.read_bytes()) == b"content" * 100


def test_where_it_cannot_be_written_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(FileError, match="cannot be written"),
        whole_file(str(tmp_path / "none" / "out")),
    ):
        pass


def test_what_is_read_is_never_replaced(tmp_path: Path) -> None:
    core, other = tmp_path / "core", tmp_path / "other"
    core.write_bytes(b"all there is")
    other.symlink_to(core)
    for out in (core, other):
        with (
            pytest.raises(FileError, match="the very file that is read"),
            whole_file(str(out), sources=("none", str(core))) as file,
        ):
            file.write(b"small")
    assert core.read_bytes() == b"all there is"
    assert sorted(tmp_path.iterdir()) == [core, other]


def test_no_device_is_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for out, kind in ((fifo, "a FIFO"), (tmp_path, "a directory")):
        with (
            pytest.raises(FileError, match=f"saw {kind}, expected a new file"),
            whole_file(str(out)),
        ):
            pass
    assert fifo.is_fifo()
