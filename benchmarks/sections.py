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
FEW_QUEUES = 16
"""Cores with more than these are a series of their own: queues cost, and mixed hide that."""

GDB_ANEW = "gdb, started anew"
"""gdb as scripts over many cores use it: started for each."""

WHY_RAM = 2 * GIB
"""Guest RAM in bytes of the core that ``why`` is asked about, beside one of the lab's."""

MAX_SERIES = 12
"""Cores in one process."""


class Row(msgspec.Struct, frozen=True):
    """One core: ``value`` is what is varied; sizes are of its file, in bytes."""

    value: int
    apparent: int
    stored: int
    costs: dict[str, Cost]


class Series(msgspec.Struct, frozen=True):
    """Several cores asked in one process: what each after the first takes.

    ``least`` and ``most`` are the queues of the cores with the fewest and with the most.
    """

    cores: int
    least: int
    most: int
    costs: dict[str, Cost]


def startup(executable: Path, core: Path, rounds: int) -> Row:
    """Time one core, whole processes from start to exit."""
    with Contenders(executable) as contenders:
        return _row(contenders, 1, core, rounds)


def further(executable: Path, cores: Sequence[Path], rounds: int) -> list[Series]:
    """Time each further core of one build within one process, those with many queues apart."""
    found = []
    with Contenders(executable) as contenders:
        counts = [sum(map(len, answer.values())) for answer in contenders.verify(cores)]
        for many in (False, True):
            group = {c: n for c, n in zip(cores, counts, strict=True) if (n > FEW_QUEUES) == many}
            some = list(group)[:MAX_SERIES]
            if len(some) < 2:
                continue
            runs = {
                name: partial(contenders.per_further_core, name, some)
                for name in contenders.names
                if name != "cold"
            }
            if "gdb" in runs:
                runs[GDB_ANEW] = partial(contenders.anew, "gdb", some)
            queues = [group[core] for core in some]
            costs = interleaved(runs, rounds)
            found.append(Series(len(some), min(queues), max(queues), costs))
    return found


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


def why(executable: Path, lab_core: Path, rounds: int) -> list[Row]:
    """Time ``why``, and ``backtrace`` beside gdb's, with layouts cached; ``value`` is of threads.

    :param lab_core: of a guest that is stuck
    """
    found = []
    with Contenders(executable) as contenders:
        for core in (lab_core, core_of_size(executable, WHY_RAM)):
            threads = contenders.verify_stacks(core)
            contenders.output("why", contenders.whole("why", core))
            found.append(_timed(contenders, contenders.stack_names, threads, core, rounds))
    return found


def _row(contenders: Contenders, value: int, core: Path, rounds: int) -> Row:
    contenders.verify([core])
    return _timed(contenders, contenders.names, value, core, rounds)


def _timed(
    contenders: Contenders, names: Sequence[str], value: int, core: Path, rounds: int
) -> Row:
    status = core.stat()
    peaks = {name: contenders.peak_kib(name, core) for name in names}
    runs = {name: partial(contenders.wall, name, core) for name in names}
    return Row(value, status.st_size, status.st_blocks * 512, interleaved(runs, rounds, peaks))
