"""The lab's command line; docs/lab.md explains it."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.lab import build, guest, runner, scenarios, stock
from tests.lab.cases import iter_cases
from tests.lab.paths import lab_root

_ATTEMPTS = 2


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab",
        description=f"Makes cores of real QEMUs, with the truth about them, below {lab_root()}.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    building = verbs.add_parser("build", help="build QEMU with debug information, once")
    building.add_argument("version", choices=build.VERSIONS)
    making = verbs.add_parser("make", help="make cases of one QEMU version")
    making.add_argument("version", choices=build.VERSIONS)
    making.add_argument("scenario", nargs="+", help=f"all, or of: {', '.join(scenarios.NAMES)}")
    making.add_argument("--missing", action="store_true", help="leave finished cases alone")
    making.add_argument("--jobs", type=int, default=1, help="cases made at the same time")
    reading = verbs.add_parser("truth", help="let gdb read the cores of finished cases again")
    reading.add_argument("case", nargs="+", help="VERSION/SCENARIO")
    verbs.add_parser("list", help="name the finished cases")
    everything = verbs.add_parser("all", help="build all versions and make all missing cases")
    everything.add_argument("version", nargs="*", help="only these versions")
    chosen = parser.parse_args(arguments)
    if chosen.verb == "build":
        print(build.qemu(chosen.version))
    elif chosen.verb == "make":
        return _make(chosen.version, chosen.scenario, chosen.missing, chosen.jobs)
    elif chosen.verb == "truth":
        for case in iter_cases():
            if case.name in chosen.case:
                runner.write_truths(case.directory, case.executable)
                print(case.name, flush=True)
    elif chosen.verb == "list":
        for case in iter_cases():
            print(case.name, *(core.kind for core in case.cores()))
    else:
        versions = chosen.version or list(build.VERSIONS)
        return max(_make(version, ["all"], missing_only=True) for version in versions)
    return 0


def _make(version: str, names: list[str], missing_only: bool, jobs: int = 1) -> int:
    wanted = list(scenarios.names_for(version)) if names == ["all"] else names
    unknown = sorted(set(wanted) - set(scenarios.NAMES))
    if unknown:
        print(f"no scenario is named {', '.join(unknown)}; there are: {', '.join(scenarios.NAMES)}")
        return 2
    build.qemu(version)
    for suite in scenarios.guests_of(wanted):
        guest.make(suite)
    if missing_only:
        there = stock.cases_of(version)
        wanted = [name for name in wanted if not (there / name / "manifest.json").exists()]
    if jobs == 1:
        good = [_made(version, name) for name in wanted]
    else:
        with ThreadPoolExecutor(jobs) as workers:
            good = list(workers.map(partial(_made_apart, version), wanted))
    return 0 if all(good) else 1


def _made_apart(version: str, name: str) -> bool:
    """Makes a case in a process of its own: what that has started dies with it, not with ours."""
    command = [sys.executable, "-m", "tests.lab", "make", version, name]
    return subprocess.run(command).returncode == 0


def _made(version: str, name: str) -> bool:
    """Makes a case; a second time if the guest or the machine was too slow for the first."""
    for _ in range(_ATTEMPTS):
        started = time.monotonic()
        try:
            place = scenarios.make(version, name)
        except Exception as failure:  # noqa: BLE001 - one scenario must not end the others
            print(f"{version}/{name} FAILED: {failure}", file=sys.stderr, flush=True)
        else:
            print(f"{version}/{name} {time.monotonic() - started:.0f} s {place}", flush=True)
            return True
    return False


sys.exit(main())
