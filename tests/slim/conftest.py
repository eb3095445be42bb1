"""The program that the tests of running processes read."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slim import target
from tests.slim.target import Target


@pytest.fixture(scope="session")
def program() -> Iterator[Path]:
    """The program, compiled; not below pytest's own directory, which is ours alone."""
    if not sys.platform.startswith("linux") or shutil.which("gcc") is None:
        pytest.skip("needs Linux and gcc")
    with tempfile.TemporaryDirectory() as directory:
        yield target.build(Path(directory))


@pytest.fixture
def sleeping(program: Path, tmp_path: Path) -> Iterator[Target]:
    """A process whose threads all sleep most of the time."""
    with target.started(program, tmp_path) as found:
        yield found


@pytest.fixture
def forking(program: Path, tmp_path: Path) -> Iterator[Target]:
    """The same, with one thread more in an uninterruptible sleep."""
    with target.started(program, tmp_path, "fork") as found:
        yield found
