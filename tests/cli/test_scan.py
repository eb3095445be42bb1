"""``vringcore scan`` and ``vringcore groups`` as their users run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.command import ROOT, vringcore
from tests.scan import cores
from tests.scan.cores import CODES


def test_rows_groups_and_export(tmp_path: Path) -> None:
    directory, out = cores.copies(tmp_path / "cores"), tmp_path / "rows.jsonl"
    table = tmp_path / "rows.csv"
    run = vringcore("scan", str(directory), "-o", str(out), "--export", str(table), "--no-cache")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("5 cores\n")
    assert "skipped: 1 no core" in run.stdout
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(row["verdict"]["code"] for row in rows) == sorted(CODES.values())
    assert len(table.read_text().splitlines()) == 6
    groups = vringcore("groups", str(out))
    assert groups.returncode == 0
    for code in filter(None, CODES.values()):
        assert code in groups.stdout
    document = json.loads(vringcore("groups", str(out), "--json").stdout)
    assert document["cores"] == 5
    again = vringcore("scan", str(directory), "-o", str(out), "--resume", "--no-cache")
    assert "5 had their row already" in again.stdout


def test_json_and_a_core_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(cores.unpacked("10.0/stuck")[:3000])
    run = vringcore("scan", str(path), "--json", "--no-cache")
    assert run.returncode == 4
    assert json.loads(run.stdout)["error"]["code"] == "core-format"
    text = vringcore("scan", str(path), "--no-cache").stdout
    assert text.startswith("1 core, 1 of them could not be read\n")


def test_what_is_wrong_is_said_before_any_work(tmp_path: Path) -> None:
    assert vringcore("scan", str(tmp_path / "nothing")).returncode == 2
    assert vringcore("scan", str(tmp_path), "--resume").returncode == 2
    assert vringcore("scan", str(tmp_path), "--export", "rows.doc").returncode == 2
    assert vringcore("groups", str(tmp_path / "nothing")).returncode == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_interrupting_keeps_the_rows_and_says_how_to_go_on(tmp_path: Path) -> None:
    directory, out = tmp_path / "cores", tmp_path / "rows"
    directory.mkdir()
    for number in range(400):
        (directory / f"{number:03}").write_bytes(cores.dump("10.0/idle").read_bytes())
    words = ["scan", str(directory), "-o", str(out), "--no-cache", "--workers", "1"]
    run = subprocess.Popen(
        [sys.executable, "-m", "vringcore", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and not (out.exists() and out.stat().st_size):
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "--resume goes on" in errors
    rows = out.read_text().splitlines()
    assert 0 < len(rows) < 400
    assert all(json.loads(line)["error"] is None for line in rows)


def test_without_the_extra_files_are_scanned_and_it_says_what_to_install(tmp_path: Path) -> None:
    """As where the extra is not installed: modules of those names that cannot be imported."""
    for name in ("fsspec", "pyarrow", "duckdb"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    core, table = str(cores.dump("10.0/idle")), str(tmp_path / "rows.parquet")
    run = vringcore("scan", core, PYTHONPATH=path)
    assert (run.returncode, "nothing is wrong" in run.stdout) == (0, True)
    for words in (["s3://fleet/cores"], [core, "--export", table]):
        run = vringcore("scan", *words, PYTHONPATH=path)
        assert run.returncode == 2
        assert "pip install 'vringcore[scan]'" in run.stderr
