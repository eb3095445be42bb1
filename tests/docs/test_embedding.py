"""The programs in docs/embedding.md do what is said of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vringcore
from tests.cli.command import ROOT
from tests.scan import cores
from vringcore.report.notebook import device_html, queue_html, verdict_html

PAGE = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")


def program(name: str, directory: Path) -> Path:
    """Write the program that begins with its name, as the page has it."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = (each for each in blocks if each.startswith(f"# {name}"))
    path = directory / name
    path.write_text(block)
    return path


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )


def test_the_watcher_tells_of_each_core_once(tmp_path: Path) -> None:
    watch = program("watch.py", tmp_path)
    directory = cores.copies(tmp_path / "cores", ["10.0/stuck", "10.0/idle"])
    first = run(watch, directory, tmp_path / "rows", "1")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.split()[1:3] == ["lab-vm", "request-not-answered-by-nbd-server"]
    cores.copies(directory, ["7.2/broken"])
    second = run(watch, directory, tmp_path / "rows", "1")
    assert [line.split()[2] for line in second.stdout.splitlines()] == ["device-broken"]


def test_pytest_tells_why_a_core_was_left(tmp_path: Path) -> None:
    program("conftest.py", tmp_path)
    core = cores.dump("7.2/stuck-migration")
    (tmp_path / "cores").mkdir()
    (tmp_path / "test_it.py").write_text(
        f"import shutil\n\ndef test_migration():\n    shutil.copy({str(core)!r}, 'cores/core.7')\n"
        "\ndef test_nothing():\n    pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "QEMU left a core: core.7" in done.stdout
    assert "The migration waits in vm_stop for the drain" in done.stdout


def test_the_notebook(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pip install pandas")
    directory = cores.copies(tmp_path / "cores", ["10.0/stuck", "7.2/stuck", "7.2/broken"])
    done = run(program("notebook.py", tmp_path), directory)
    assert done.returncode == 0, done.stderr
    assert re.search(r"request-not-answered-by-nbd-server +2\n", done.stdout)
    assert "have not been answered" in done.stdout


def test_what_a_notebook_shows(tmp_path: Path) -> None:
    kinds: dict[type, Any] = {}
    html = SimpleNamespace(for_type=kinds.__setitem__)
    vringcore.load_ipython_extension(
        SimpleNamespace(display_formatter=SimpleNamespace(formatters={"text/html": html}))
    )
    assert {kind.__name__ for kind in kinds} == {"Device", "Queue", "Verdict"}
    with vringcore.open_core(str(cores.dump("10.0/stuck"))) as core:
        report = core.why()
    assert report.devices
    assert report.verdict
    (device,) = report.devices
    assert device.queues
    assert device_html(device).count("<tr>") == 5
    assert queue_html(device.queues[0]).count("<li>head") == 2
    assert "have not been answered" in verdict_html(report.verdict)
    evil = SimpleNamespace(
        state="stuck", confidence="high", code="x", summary="<script>", chain=(), refuted_by=()
    )
    assert "<script>" not in verdict_html(evil)  # type: ignore[arg-type]
