"""The program of the expressions' tests, built and dumped once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.expr.program import HAVE_TOOLS, Program

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Give the program with its core; skip where it cannot be made."""
    if not HAVE_TOOLS:
        pytest.skip("needs gcc and gdb")
    made = Program(tmp_path_factory.mktemp("program"))
    yield made
    made.close()
