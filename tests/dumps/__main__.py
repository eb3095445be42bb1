"""The command line of the dumps; docs/dumps.md explains it."""

from __future__ import annotations

import argparse
import sys

from tests.dumps.make import make
from tests.lab.cases import DUMPS, Case, iter_cases

NOT_QEMU = "other-"
"""Scenarios of programs without virtio devices, of which there is no small core."""


def main(words: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.dumps", description=f"Makes small cores below {DUMPS}."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    adding = verbs.add_parser("add", help="add cases that the lab has made, or renew them")
    adding.add_argument("version")
    adding.add_argument("scenario", nargs="+")
    verbs.add_parser("renew", help="make the dumps that are there anew, where the lab has the case")
    chosen = parser.parse_args(words)
    made = {case.name: case for case in iter_cases() if not case.scenario.startswith(NOT_QEMU)}
    if chosen.verb == "renew":
        there = {f"{case.version}/{case.scenario}" for case in iter_cases(DUMPS)}
        return _make_all([case for name, case in made.items() if name in there])
    names = [f"{chosen.version}/{scenario}" for scenario in chosen.scenario]
    unknown = [name for name in names if name not in made]
    if unknown:
        print(f"the lab has not made {', '.join(unknown)}: docs/lab.md", file=sys.stderr)
        return 2
    return _make_all([made[name] for name in names])


def _make_all(cases: list[Case]) -> int:
    for case in cases:
        place = make(case)
        size = sum(path.stat().st_size for path in place.iterdir())
        print(f"{place.relative_to(DUMPS)}: {size} bytes", flush=True)
    return 0


sys.exit(main())
