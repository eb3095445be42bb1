"""The results as text: the tables that are printed, and docs/benchmarks.md made of them."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.contenders import GDB_STACKS
from benchmarks.sections import GDB_ANEW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.contenders import Cost
    from benchmarks.sections import Row, Series

LABELS = {
    "cold": "vringcore, cold",
    "warm": "vringcore, warm",
    "gdb": "gdb",
    GDB_ANEW: GDB_ANEW,
    "drgn": "drgn",
    "why": "why",
    "backtrace": "backtrace",
    GDB_STACKS: "gdb's bt",
}
FIGURE = "benchmarks.svg"


class Results(msgspec.Struct):
    """What the sections measured; None of one that did not run."""

    executable: Path
    rounds: int
    startup: Row | None = None
    further: list[Series] | None = None
    why: list[Row] | None = None
    sizes: list[Row] | None = None
    queues: list[Row] | None = None


def tables(results: Results) -> dict[str, str]:
    """Return the table of each section that ran, in Markdown."""
    found = {}
    if results.startup is not None:
        found["startup"] = cost_table(results.startup.costs, LABELS)
    if results.further is not None:
        found["further"] = "\n\n".join(map(_series_table, results.further))
    if results.why is not None:
        found["why"] = row_table(results.why, ["threads", *_SIZE_HEADS], _thread_cells, peaks=True)
    if results.sizes is not None:
        found["sizes"] = row_table(
            results.sizes, ["guest RAM, GiB", *_SIZE_HEADS], _size_cells, peaks=True
        )
    if results.queues is not None:
        found["queues"] = row_table(results.queues, ["queues"], _count_cells, peaks=False)
    return found


def cost_table(costs: Mapping[str, Cost], labels: Mapping[str, str]) -> str:
    """Return one row for each program, with the ratios of the medians to gdb and drgn."""
    others = [name for name in ("gdb", GDB_ANEW, "drgn") if name in costs]
    weighed = all(cost.peak_kib for cost in costs.values())
    heads = ["median ms", "least ms", *["peak MiB"] * weighed]
    heads += [f"{labels[name]} / it" for name in others]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name, cost in costs.items():
        cells = [f"{cost.median_ms:.1f}", f"{cost.min_ms:.1f}"]
        cells += [f"{cost.peak_kib / 1024:.0f}"] * weighed
        cells += [f"{_ratio(costs[other].median_ms / cost.median_ms)}" for other in others]
        lines.append(f"| {labels[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def row_table(
    rows: Sequence[Row],
    heads: Sequence[str],
    cells: Callable[[Row], list[str]],
    *,
    peaks: bool,
) -> str:
    """Return one row for each core, with the median times, and the peaks if asked for."""
    names = list(rows[0].costs)
    all_heads = [*heads, *(f"{LABELS[n]}, ms" for n in names)]
    all_heads += [f"{LABELS[n]}, MiB" for n in names if peaks]
    lines = ["| " + " | ".join(all_heads) + " |", "|" + "---:|" * len(all_heads)]
    for row in rows:
        found = [*cells(row), *(f"{row.costs[n].median_ms:.0f}" for n in names)]
        found += [f"{row.costs[n].peak_kib / 1024:.0f}" for n in names if peaks]
        lines.append("| " + " | ".join(found) + " |")
    return "\n".join(lines)


def page(results: Results) -> str:
    """Return docs/benchmarks.md; every section must have run."""
    found = tables(results)
    assert results.startup is not None
    startup = results.startup
    return f"""# Benchmarks

Written by `python -m benchmarks --write docs/benchmarks.md` ("Running it", below).

One question, "every VirtQueue of every virtio device, all members", asked of the same cores by
three programs: `vringcore queues --json`, gdb with `benchmarks/gdb_queues.py`, and drgn with
`benchmarks/drgn_queues.py`. For every core below the three answers were compared first, every
member of every queue, and were equal.

- {results.executable.parent.name}'s qemu-system-x86_64: \
{results.executable.stat().st_size / 2**20:.0f} MiB with its debug information
- {", ".join([f"Python {platform.python_version()}", *_versions(startup.costs)])}
- Linux {platform.release()}, {_processor()}, {os.cpu_count()} processors
- Wall-clock time; programs run in turn, {results.rounds} times each in the first table and
  {max(1, results.rounds // 2)} in the others; page cache and byte code warm
- Load average of the machine over the last 15 minutes when this was written: \
{os.getloadavg()[2]:.1f}. On a quiet one it is this benchmark's own, about 1

`cold` has nothing cached about the build, `warm` has its layouts in the cache by build-id. gdb also
reads the threads and libc's debug information, and drgn indexes every name; neither walks a ring or
names a device's QOM path, back-end and features, which vringcore does. So the ratios are of time to
the answer, not of equal work.

## One core, from start to exit

A guest stuck on its disk (the lab's `stuck-migration`, docs/lab.md): one device, four queues, a
core by gcore of {startup.apparent / 2**20:.0f} MiB, {startup.stored / 2**20:.0f} of them stored.

{found["startup"]}

## Each further core of the same build in one process

Cores of the lab: (time of all - time of the first) / (their number - 1). vringcore through the
library, with a `LayoutStore` shared by all cores and the document of `queues --json` encoded; drgn
by a new `Program`. gdb in two ways: `gdb, started anew` for each core, as scripts over many cores
do it; `gdb, core-file again` in one process, where it keeps what the first core made it read of the
executable, and has only the core, its threads and its libraries to read.

{found["further"]}

## The verdict, and backtraces

`vringcore why` and `vringcore backtrace` as they print for a reader, from start to exit, layouts
cached; gdb with `thread apply all bt`. The functions of all frames were compared with gdb's first.
`why` unwinds all threads and coroutines, too, and walks the block layer, event loops and locks. The
first core is the one above, the second of a QEMU with 2 GiB of guest RAM.

{found["why"]}

## By size of the core, and by number of queues

![Time and memory by size of the core, time by number of queues]({FIGURE})

{found["sizes"]}

Each is a real QEMU with so much guest RAM, one disk of four queues with reads that never return,
hardly any RAM touched; the kernel wrote the core. It leaves holes for pages that were never
written.

{found["queues"]}

Disks of at most 64 queues, one to seven reads in each queue; cores by gcore. No guest runs in
these: the disks are set up from outside as a driver would (`benchmarks/qtest.py`).

## Running it

    pip install -e '.[bench]'
    python -m tests.lab build 7.2 && python -m tests.lab make --missing 7.2 all
    python -m benchmarks --write docs/benchmarks.md

`python -m benchmarks sizes queues` runs some sections alone (`startup`, `further`, `why`, `sizes`,
`queues`), `--quick` a few small cores once or twice, to see that all of it works. gdb is the
system's; without it, or without drgn, the tables lack its row. The cores by size and by number of
queues are made once and kept in `$VRINGCORE_BENCH`, otherwise `~/.cache/vringcore-bench`: 0.3 GB
on disk, 90 GB apparent. `/proc/sys/kernel/core_pattern` must be a plain file name (`core`).

The pure parts (ring walk, look-up of a type in DWARF, decoding a VirtQueue) have micro-benchmarks:

    python -m pytest benchmarks/test_micro.py
"""


def _series_table(series: Series) -> str:
    labels = LABELS | {"warm": "vringcore", "gdb": "gdb, core-file again"}
    table = cost_table(series.costs, labels)
    queues = f"{series.least} to {series.most}" if series.least < series.most else series.most
    return f"{series.cores} cores of {queues} queues:\n\n{table}"


_SIZE_HEADS = ("core, GiB", "stored, MiB")


def _file_cells(row: Row) -> list[str]:
    return [f"{row.apparent / 2**30:.4g}", f"{row.stored / 2**20:.0f}"]


def _size_cells(row: Row) -> list[str]:
    return [f"{row.value / 2**30:.4g}", *_file_cells(row)]


def _thread_cells(row: Row) -> list[str]:
    return [str(row.value), *_file_cells(row)]


def _count_cells(row: Row) -> list[str]:
    return [str(row.value)]


def _ratio(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio < 100 else f"{ratio:.0f}x"


def _versions(costs: Mapping[str, Cost]) -> list[str]:
    """Return name and version of the programs that took part."""
    found = []
    if "gdb" in costs:
        done = subprocess.run(["gdb", "--version"], capture_output=True, text=True, check=True)
        found.append(f"gdb {done.stdout.splitlines()[0].split()[-1]}")
    if "drgn" in costs:
        found.append(f"drgn {version('drgn')}")
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
