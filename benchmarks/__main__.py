"""Compare vringcore with gdb and drgn, side by side.

    python -m benchmarks                               all sections, tables on the terminal
    python -m benchmarks startup further               only these
    python -m benchmarks --quick                       small cores, few rounds: does it work?
    python -m benchmarks --write docs/benchmarks.md    all sections, the page and its figure

Sections: startup (one core, cold and warm), further (each further core in one process), why (the
verdict, and backtraces), sizes (0.25 to 64 GiB), queues (1 to 500). QEMU and the cores of the first
three come from the lab (docs/lab.md); the others are made when they are missing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import plot, sections
from benchmarks.page import FIGURE, Results, page, tables
from benchmarks.sections import GIB

SECTIONS = ("startup", "further", "why", "sizes", "queues")
SIZES = (3 * GIB // 16, 15 * GIB // 16, 4 * GIB, 16 * GIB, 64 * GIB)
"""Guest RAM in bytes; the first two leave room for the rest of a core of 0.25 and 1 GiB."""

QUEUES = (1, 4, 16, 64, 250, 500)
MAX_CORES = 16
"""Of the lab, asked one after the other."""

ROUNDS = 15
NO_VIRTIO = "other-"
"""Scenarios of programs without virtio devices."""


def main() -> int:
    """Run the sections asked for; return the exit code."""
    arguments = _arguments()
    executable, cores = _lab(arguments.version)
    if not executable.exists():
        print(f"no {executable}: `python -m tests.lab build {arguments.version}`", file=sys.stderr)
        return 2
    wanted = arguments.sections or SECTIONS
    if not cores and {"startup", "further", "why"} & set(wanted):
        print(f"no cores: `python -m tests.lab make {arguments.version} all`", file=sys.stderr)
        return 2
    quick = arguments.quick
    rounds = arguments.rounds or (2 if quick else ROUNDS)
    fewer = max(1, rounds // 2)
    results = Results(executable, rounds)
    if "startup" in wanted:
        results.startup = sections.startup(executable, _stuck(cores), rounds)
        _tell(results, "startup")
    if "further" in wanted:
        results.further = sections.further(executable, cores[: 3 if quick else MAX_CORES], fewer)
        _tell(results, "further")
    if "why" in wanted:
        results.why = sections.why(executable, _stuck(cores), fewer)
        _tell(results, "why")
    if "sizes" in wanted:
        results.sizes = sections.sizes(executable, SIZES[: 2 if quick else None], fewer)
        _tell(results, "sizes")
    if "queues" in wanted:
        results.queues = sections.queues(executable, QUEUES[: 3 if quick else None], fewer)
        _tell(results, "queues")
    if arguments.write is not None:
        assert results.sizes is not None
        assert results.queues is not None
        arguments.write.write_text(page(results))
        plot.draw(results.sizes, results.queues, arguments.write.with_name(FIGURE))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--quick", action="store_true", help="small cores, few rounds")
    parser.add_argument("--rounds", type=int, help=f"runs of each program ({ROUNDS})")
    parser.add_argument("--version", default="7.2", help="the lab's QEMU (%(default)s)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page, figure beside")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}: there are {', '.join(SECTIONS)}")
    if arguments.write is not None and set(arguments.sections or SECTIONS) != set(SECTIONS):
        parser.error("the page has all sections: name none with --write")
    return arguments


def _lab(version: str) -> tuple[Path, list[Path]]:
    """Return the lab's executable and its gcore cores with virtio devices."""
    from tests.lab.cases import iter_cores
    from tests.lab.paths import qemu_directory

    cores = [
        core.path
        for core in iter_cores()
        if core.case.version == version
        and core.kind == "gcore"
        and not core.case.scenario.startswith(NO_VIRTIO)
    ]
    return qemu_directory(version) / "qemu-system-x86_64", cores


def _stuck(cores: list[Path]) -> Path:
    """Return the core that stands for all: of a guest stuck on its disk, if there is one."""
    return next((core for core in cores if core.parent.name == "stuck-migration"), cores[0])


def _tell(results: Results, section: str) -> None:
    print(f"{section}\n\n{tables(results)[section]}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
