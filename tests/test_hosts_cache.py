"""The cache of layouts is a help, never a need: no home, no room, no right, another at it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ROOT
from tests.cores import lab_cores
from tests.lab.cases import CoreCase
from vringcore.layout.cache import LayoutCache

RUN = "from vringcore.cli.entry import entry; entry()"
FULL = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)); {RUN}"
"""No file grows beyond 512 bytes: writing fails in the middle, as on a full disk."""

CASES = lab_cores(lambda core: core.name == "7.2/stuck/gcore")


def start(
    case: CoreCase, cache: str | None, code: str = RUN, **environment: str
) -> subprocess.Popen[bytes]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    where = {} if cache is None else {"XDG_CACHE_HOME": cache}
    words = ["queues", str(case.path), "-e", str(case.case.executable)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=ROOT, env=kept | where | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def said(process: subprocess.Popen[bytes]) -> bytes:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error.decode()
    assert b"Traceback" not in error
    return out


@pytest.mark.parametrize("case", CASES)
def test_answers_do_not_hang_on_the_cache(case: CoreCase, tmp_path: Path) -> None:
    plain = said(start(case, str(tmp_path / "cache")))
    assert any((tmp_path / "cache").rglob("*")), "nothing was cached: the test says nothing"
    (tmp_path / "file").write_text("no directory")
    (tmp_path / "home").mkdir()
    assert said(start(case, str(tmp_path / "file"))) == plain
    assert said(start(case, "/proc/nowhere")) == plain  # not even root may write there
    assert said(start(case, None, HOME=str(tmp_path / "home"))) == plain
    assert said(start(case, None, HOME="")) == plain


def test_an_empty_home_is_not_the_root_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    assert LayoutCache.default() is None


@pytest.mark.parametrize("case", CASES)
def test_a_full_disk_leaves_no_half_of_a_file(case: CoreCase, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = said(start(case, str(cache), FULL))
    left = [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size]
    assert left == []
    assert said(start(case, str(cache))) == first
    assert any(path.is_file() and path.stat().st_size > 512 for path in cache.rglob("*"))


@pytest.mark.parametrize("case", CASES)
def test_two_at_once_write_one_good_cache(case: CoreCase, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    both = [start(case, cache) for _ in range(2)]
    first, second = [said(process) for process in both]
    assert first == second
    files = {path.name for path in Path(cache).rglob("*") if path.is_file()}
    assert said(start(case, cache)) == first
    # What was written by two is whole: the third found all in it and added nothing.
    assert {path.name for path in Path(cache).rglob("*") if path.is_file()} == files
    assert not any("tmp" in name for name in files)
