"""The questions that the benchmark asks. Each compares all answers before it takes any time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from benchmarks.contenders import Contenders, Cost, interleaved
from benchmarks.cores import core_of_queues, core_of_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GIB = 1 << 30


class Row(msgspec.Struct, frozen=True):
    """One core: ``value`` is what is varied; sizes are of its file, in bytes."""

    value: int
    apparent: int
    stored: int
    costs: dict[str, Cost]


def startup(executable: Path, core: Path, rounds: int) -> Row:
    """Time one core, whole processes from start to exit."""
    with Contenders(executable) as contenders:
        return _row(contenders, 1, core, rounds)


def further(executable: Path, cores: Sequence[Path], rounds: int) -> dict[str, Cost]:
    """Time each further core of one build within one process."""
    with Contenders(executable) as contenders:
        contenders.verify(cores)
        runs = {
            name: partial(contenders.per_further_core, name, cores)
            for name in contenders.names
            if name != "cold"
        }
        return interleaved(runs, rounds)


def sizes(executable: Path, rams: Sequence[int], rounds: int) -> list[Row]:
    """Time cores that differ in guest RAM, given in bytes."""
    cores = {ram: core_of_size(executable, ram) for ram in rams}
    with Contenders(executable) as contenders:
        return [_row(contenders, ram, core, rounds) for ram, core in cores.items()]


def queues(executable: Path, counts: Sequence[int], rounds: int) -> list[Row]:
    """Time cores that differ in the number of queues."""
    cores = {count: core_of_queues(executable, count) for count in counts}
    with Contenders(executable) as contenders:
        return [_row(contenders, count, core, rounds) for count, core in cores.items()]


def _row(contenders: Contenders, value: int, core: Path, rounds: int) -> Row:
    contenders.verify([core])
    status = core.stat()
    peaks = {name: contenders.peak_kib(name, core) for name in contenders.names}
    runs = {name: partial(contenders.wall, name, core) for name in contenders.names}
    return Row(value, status.st_size, status.st_blocks * 512, interleaved(runs, rounds, peaks))
