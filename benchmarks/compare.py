"""Time `vringcore queues --json` beside gdb and drgn doing the same, whole processes, interleaved.

    python -m benchmarks.compare EXECUTABLE CORE [--rounds 15] [--python PYTHON]

Before anything is timed, the three must give the same numbers for every queue. `--python` names
the interpreter of an environment with vringcore installed as a user has it; drgn runs in this one.
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
from typing import Any

HERE = Path(__file__).parent


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
    """Return the largest resident size of one run in KiB."""
    pid = os.spawnve(
        os.P_NOWAIT,
        sys.executable,
        [sys.executable, "-c", _QUIETLY, *command],
        environment,
    )
    _pid, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{command}: status {status}")
    return usage.ru_maxrss


_QUIETLY = (
    "import os,sys; n=os.open(os.devnull,os.O_WRONLY); os.dup2(n,1); os.dup2(n,2);"
    " os.execvp(sys.argv[1], sys.argv[1:])"
)


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


def commands(executable: str, core: str, python: str) -> dict[str, list[str]]:
    """Return the command of each contender."""
    ours = [python, "-m", "vringcore", "queues", core, "-e", executable, "--json"]
    script = Path(python).with_name("vringcore")
    if script.exists():
        ours = [str(script), "queues", core, "-e", executable, "--json"]
    return {
        "cold": ours,
        "warm": ours,
        "gdb": ["gdb", "-batch", "-nx", "-x", str(HERE / "gdb_queues.py"), executable, core],
        "drgn": [sys.executable, str(HERE / "drgn_queues.py"), executable, core],
    }


def measure(executable: str, core: str, python: str, rounds: int) -> dict[str, Any]:
    """Return medians and minima in milliseconds and peak memory in KiB, by contender."""
    with tempfile.TemporaryDirectory() as warm_cache:
        base = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environments = {name: dict(base) for name in ("gdb", "drgn")}
        environments["warm"] = dict(base, XDG_CACHE_HOME=warm_cache)
        all_commands = commands(executable, core, python)
        answers = {
            name: queues_of(run(command, environments.get(name, environments["warm"]))[1])
            for name, command in all_commands.items()
        }
        if any(answer != answers["gdb"] for answer in answers.values()):
            raise RuntimeError(f"the answers differ: {answers}")
        times: dict[str, list[float]] = {name: [] for name in all_commands}
        for _ in range(rounds):
            for name, command in all_commands.items():
                with tempfile.TemporaryDirectory() as empty:
                    environment = environments.get(name) or dict(base, XDG_CACHE_HOME=empty)
                    times[name].append(run(command, environment)[0])
        with tempfile.TemporaryDirectory() as empty:
            environments["cold"] = dict(base, XDG_CACHE_HOME=empty)
            memory = {name: peak_memory(c, environments[name]) for name, c in all_commands.items()}
    return {
        name: {
            "median_ms": statistics.median(values),
            "min_ms": min(values),
            "peak_kib": memory[name],
        }
        for name, values in times.items()
    }


def main() -> None:
    """Print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("executable")
    parser.add_argument("core")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--python", default=sys.executable)
    arguments = parser.parse_args()
    results = measure(arguments.executable, arguments.core, arguments.python, arguments.rounds)
    print(f"{'':8}{'median ms':>12}{'min ms':>10}{'peak MiB':>10}{'gdb':>8}{'drgn':>8}")
    for name, row in results.items():
        by_gdb = results["gdb"]["median_ms"] / row["median_ms"]
        by_drgn = results["drgn"]["median_ms"] / row["median_ms"]
        print(
            f"{name:8}{row['median_ms']:12.1f}{row['min_ms']:10.1f}{row['peak_kib'] / 1024:10.1f}"
            f"{by_gdb:7.1f}x{by_drgn:7.1f}x"
        )


if __name__ == "__main__":
    main()
