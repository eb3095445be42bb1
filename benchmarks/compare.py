"""Time `vringcore queues --json` beside gdb and drgn doing the same, whole processes, interleaved.

    python -m benchmarks.compare EXECUTABLE CORE [--rounds 15] [--write docs/benchmarks.md]

Before anything is timed, the three must give the same numbers for every queue. vringcore runs in an
environment of its own, as a user has it; drgn in this one; gdb is the system's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.environment import make_environment

HERE = Path(__file__).parent

OURS = ("cold", "warm")


class Result(msgspec.Struct, frozen=True):
    """One contender: wall-clock milliseconds and peak resident memory."""

    median_ms: float
    min_ms: float
    peak_kib: int


def run(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Return wall milliseconds and standard output of one run.

    :raises RuntimeError: if the command fails
    """
    start = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    elapsed = (time.perf_counter() - start) * 1000
    if done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return elapsed, done.stdout


def peak_memory(command: list[str], environment: dict[str, str]) -> int:
    """Return the largest resident size of one run in KiB.

    A small process of its own starts it: on Linux the figure never falls below what the starting
    process had, so a large one, such as a test runner, would be measured instead.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", _STARTER, *command],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


_STARTER = """
import os, sys
quiet = os.open(os.devnull, os.O_RDWR)
files = [(os.POSIX_SPAWN_DUP2, quiet, number) for number in (0, 1, 2)]
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=files)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(status != 0)
"""


def queues_of(output: str) -> list[Any]:
    """Return [device, [[last_avail_idx, used_idx, inuse], ...]] of any of the three outputs."""
    if output.startswith("{"):
        return sorted(
            [
                int(device["address"], 16),
                [[q["last_avail_idx"], q["used_idx"], q["in_use"]] for q in device["queues"]],
            ]
            for device in json.loads(output)["devices"]
        )
    line = next(line for line in output.splitlines() if line.startswith("QUEUES "))
    return json.loads(line.removeprefix("QUEUES "))  # type: ignore[no-any-return]


def commands(executable: str, core: str, script: Path) -> dict[str, list[str]]:
    """Return the command of each contender."""
    ours = [str(script), "queues", core, "-e", executable, "--json"]
    return {
        "cold": ours,
        "warm": ours,
        "gdb": ["gdb", "-batch", "-nx", "-x", str(HERE / "gdb_queues.py"), executable, core],
        "drgn": [sys.executable, str(HERE / "drgn_queues.py"), executable, core],
    }


def measure(executable: str, core: str, rounds: int) -> dict[str, Result]:
    """Return what each contender took; `cold` starts with an empty cache each time.

    :raises RuntimeError: if the contenders' answers differ
    """
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        every = commands(executable, core, make_environment(place / "environment"))
        base = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        base["PYTHONPYCACHEPREFIX"] = str(place / "bytecode")
        warm = base | {"XDG_CACHE_HOME": str(place / "cache")}

        def environment(name: str, turn: object) -> dict[str, str]:
            if name == "cold":
                return base | {"XDG_CACHE_HOME": str(place / f"empty-{turn}")}
            return warm

        answers = {n: queues_of(run(c, environment(n, "first"))[1]) for n, c in every.items()}
        if any(answer != answers["gdb"] for answer in answers.values()):
            raise RuntimeError(f"the answers differ: {answers}")
        times: dict[str, list[float]] = {name: [] for name in every}
        for turn in range(rounds):
            for name, command in every.items():
                times[name].append(run(command, environment(name, turn))[0])
        return {
            name: Result(
                statistics.median(times[name]),
                min(times[name]),
                peak_memory(command, environment(name, "memory")),
            )
            for name, command in every.items()
        }


def table(results: dict[str, Result]) -> str:
    """Return the results as a Markdown table, with the ratios of the medians."""
    lines = [
        "| | median ms | min ms | peak MiB | to gdb | to drgn |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in results.items():
        label = f"vringcore, {name}" if name in OURS else name
        lines.append(
            f"| {label} | {row.median_ms:.1f} | {row.min_ms:.1f} | {row.peak_kib / 1024:.0f}"
            f" | {results['gdb'].median_ms / row.median_ms:.1f}x"
            f" | {results['drgn'].median_ms / row.median_ms:.1f}x |"
        )
    return "\n".join(lines)


def page(results: dict[str, Result], executable: str, core: str, rounds: int) -> str:
    """Return docs/benchmarks.md."""
    apparent, stored = os.stat(core).st_size, os.stat(core).st_blocks * 512
    return f"""# Benchmarks

Written by `python -m benchmarks.compare EXECUTABLE CORE --write docs/benchmarks.md`.

One question, "every VirtQueue of every virtio device, all members", asked of the same core by three
programs, each a whole process from start to exit: `vringcore queues --json`,
`gdb -batch -x benchmarks/gdb_queues.py`, and drgn with `benchmarks/drgn_queues.py`. The numbers of
every queue were compared first and were equal. Runs are interleaved, {rounds} of each.

- Core: {apparent / 2**20:.0f} MiB apparent, {stored / 2**20:.0f} MiB stored
- Executable: {os.stat(executable).st_size / 2**20:.0f} MiB with its debug information
- Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}

`cold` has nothing cached about the build, `warm` has its layouts in the cache by build-id. Page
cache and byte code are warm for all.

{table(results)}

gdb also reads the threads and libc's debug information, and drgn indexes every name; neither walks
a ring, which vringcore does. So the ratios are of time to the answer, not of equal work.
"""


def main() -> None:
    """Print the table; with --write, write the page."""
    parser = argparse.ArgumentParser(description="Time vringcore beside gdb and drgn.")
    parser.add_argument("executable")
    parser.add_argument("core")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    results = measure(arguments.executable, arguments.core, arguments.rounds)
    print(table(results))
    if arguments.write:
        text = page(results, arguments.executable, arguments.core, arguments.rounds)
        arguments.write.write_text(text)


if __name__ == "__main__":
    main()
