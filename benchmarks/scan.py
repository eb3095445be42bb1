"""How fast a scan is, and that its memory is flat; beside gdb and drgn on the lab's whole cores.

    python -m tests.scan.fleet 10000 fleet.tar
    python -m benchmarks.scan run fleet.tar [options of `vringcore scan`]
    python -m benchmarks.scan beside [--version 10.0] [--cores 4]

`run` scans and tells cores per second, the processor time of a core, and the largest memory of all
processes in each tenth of the time. `beside` asks whole cores of the lab, one after the other in
one process each: gdb prints all queues and the backtraces of all threads, drgn prints all queues,
vringcore gives queues and requests, then the verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
TENTHS = 10
EVERY = 0.5
"""Seconds between two looks at the memory."""


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("run", add_help=False)
    beside_ = kinds.add_parser("beside")
    beside_.add_argument("--version", default="10.0", help="the lab's QEMU (%(default)s)")
    beside_.add_argument("--cores", type=int, default=4, help="how many (%(default)s)")
    known, words = parser.parse_known_args()
    return run(words) if known.kind == "run" else beside(known.version, known.cores)


def run(words: list[str]) -> int:
    """Scan, and watch the memory of all processes."""
    with tempfile.TemporaryDirectory() as place:
        out = words[words.index("-o") + 1] if "-o" in words else f"{place}/rows"
        command = [sys.executable, "-m", "vringcore", "scan", *words]
        command += [] if "-o" in words else ["-o", out]
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        memory: list[int] = []
        while process.poll() is None:
            memory.append(_resident(process.pid))
            time.sleep(EVERY)
        took = time.monotonic() - start
        with open(out, encoding="utf-8") as file:
            costs = [json.loads(line)["cost"] for line in file]
    cpu = sum(cost["cpu_seconds"] for cost in costs) / len(costs) * 1000
    print(f"{len(costs)} cores in {took:.1f} s: {len(costs) / took:.1f} cores per second")
    print(f"{cpu:.1f} ms of a processor for a core, in the workers")
    tenth = max(1, len(memory) // TENTHS)
    peaks = [max(memory[at : at + tenth]) >> 10 for at in range(0, len(memory), tenth)]
    print(f"MiB resident, all processes, in each tenth of the time: {peaks}")
    return process.returncode


def _resident(pid: int) -> int:
    """Return the KiB that a process and its children have in memory."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    total = 0
    for each in (str(pid), *found.stdout.split()):
        try:
            words = Path(f"/proc/{each}/statm").read_text().split()
        except OSError:
            continue
        total += int(words[1]) * os.sysconf("SC_PAGE_SIZE") >> 10
    return total


def beside(version: str, count: int) -> int:
    """Print a table of what a core takes each program; return the exit code."""
    from tests.lab.cases import iter_cores
    from tests.lab.paths import qemu_directory

    executable = qemu_directory(version) / "qemu-system-x86_64"
    cores = [
        core.path
        for core in iter_cores()
        if core.case.version == version
        and core.kind == "gcore"
        and core.case.scenario.startswith("stuck")
    ][: count + 1]
    if len(cores) < 2:
        print(f"no cores: `python -m tests.lab make {version} all`", file=sys.stderr)
        return 2
    print(f"QEMU {version}, {len(cores) - 1} whole cores, CPU ms per core")
    alone = _gdb(executable, cores[:1])
    rows = {
        "gdb, queues and backtraces, a process for each": alone,
        "gdb, the same, each further core of one process": _further(_gdb, executable, cores),
        "drgn, queues, a process for each": _drgn(executable, cores[:1]),
        "drgn, the same, each further core of one process": _further(_drgn, executable, cores),
    }
    for what, why in (("queues and requests", False), ("why", True)):
        new, met = _ours(executable, cores, why=why)
        rows[f"vringcore, {what}, a state met before"] = met
        rows[f"vringcore, {what}, a state not met before"] = new
    for name, each in rows.items():
        print(f"{name:50} {each:9.1f}   gdb alone / this: {alone / each:7.1f}")
    return 0


def _further(
    took: Callable[[Path, list[Path]], float], executable: Path, cores: list[Path]
) -> float:
    """Return what a core takes that is not a process's first."""
    return (took(executable, cores) - took(executable, cores[:1])) / (len(cores) - 1)


def _gdb(executable: Path, cores: list[Path]) -> float:
    words = ["-ex", "set pagination off"]
    for core in cores:
        words += ["-ex", f"python CORES=[{str(core)!r}]", "-x", str(HERE / "gdb_queues.py")]
        words += ["-ex", "thread apply all bt"]
    return _cpu(["gdb", "-batch", "-nx", *words, str(executable)])


def _drgn(executable: Path, cores: list[Path]) -> float:
    script = HERE / "drgn_queues.py"
    return _cpu([sys.executable, str(script), str(executable), *map(str, cores)])


def _ours(executable: Path, cores: list[Path], *, why: bool) -> tuple[float, float]:
    """Return the milliseconds of a worker for a further core: of a new state, of one it has met.

    Each core of the lab is another state of a VM, which asks for types that those before did not;
    an archive has few states and many cores of each.
    """
    from vringcore.scan.place import Place, Settings
    from vringcore.scan.worker import Worker

    # Nothing was asked of the build before, by this process or by one that left it in the cache.
    worker = Worker(Settings(executables=(str(executable),), why=why, cache=False))
    places = [Place(str(core), size=core.stat().st_size) for core in cores]
    first, again = ([worker.row(place) for place in places] for _ in range(2))
    wrong = [row.error for row in (*first, *again) if row.error is not None]
    if wrong:
        raise RuntimeError(str(wrong[0]))
    new, met = (statistics.fmean(r.cost.cpu_seconds for r in rows[1:]) for rows in (first, again))
    return new * 1000, met * 1000


def _cpu(command: list[str]) -> float:
    """Return the milliseconds of a processor that a command takes."""
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stderr[-2000:]}")
    after = os.times()
    children = after.children_user + after.children_system
    return (children - before.children_user - before.children_system) * 1000


if __name__ == "__main__":
    sys.exit(main())
