"""Expressions over small cores, opened alone, as gdb prints them from the whole ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cores import dumps
from tests.expr.printing import differences
from tests.expr.structures import COMMANDS_OF_FORK, QUEUES_OF_FORK
from tests.lab.cases import iter_dumps

if TYPE_CHECKING:
    from tests.lab.cases import CoreCase


@pytest.mark.parametrize("core", dumps(lambda core: core.printed))
def test_every_line_is_gdbs(core: CoreCase) -> None:
    process = core.open_process()
    try:
        assert differences(process, core.printed) == []
    finally:
        process.close()


def test_they_are_many_and_of_every_version() -> None:
    printed = {core.name: core.printed for core in iter_dumps() if core.printed}
    assert {name.split("/")[1] for name in printed} == {"5.2", "7.2", "7.2-fork", "10.0", "10.2"}
    assert sum(map(len, printed.values())) >= 200
    assert not any(
        line.startswith("error:") for lines in printed.values() for line in lines.values()
    )


def test_the_forks_queues_are_among_them() -> None:
    (fork,) = (core for core in iter_dumps() if core.name.endswith("fork-stuck/gcore"))
    assert {f"p {queue}" for queue in QUEUES_OF_FORK} <= fork.printed.keys()
    assert set(COMMANDS_OF_FORK) <= fork.printed.keys()
