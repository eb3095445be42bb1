"""The README's first command in a fresh virtual environment, with nothing else at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from tests.docs.test_readme import README, ROOT, elsewhere

MINUTES = 10


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the directory of the programs of a new virtual environment with the package in it."""
    place = tmp_path_factory.mktemp("fresh")
    source = place / "source"
    kept_out = shutil.ignore_patterns(".*", "__pycache__", "tests", "benchmarks")
    shutil.copytree(ROOT, source, ignore=kept_out)
    venv.create(place / "venv", with_pip=True)
    programs = place / "venv" / "bin"
    done = subprocess.run(
        [programs / "pip", "install", "-q", "."],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=60 * MINUTES,
    )
    if done.returncode and "No matching distribution found" in done.stderr:
        pytest.skip("no package index to install the dependencies from")
    assert done.returncode == 0, done.stderr
    return programs


def test_the_first_command_works_without_anything_else(installed: Path, tmp_path: Path) -> None:
    """No cache, no home to write to, no network where the kernel lets us take it away."""
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []
    done = subprocess.run(
        [*alone, installed / "vringcore", "demo"],
        cwd=home,
        env={"HOME": str(home), "XDG_CACHE_HOME": str(home), "COLUMNS": "100", "PATH": os.defpath},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert elsewhere(done.stdout) in README
    assert list(home.iterdir()) == []
