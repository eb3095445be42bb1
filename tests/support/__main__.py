"""``python -m tests.support``: renews the tables of docs/support.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.lab.cases import iter_dumps
from tests.support import page
from tests.support.cores import Sample
from tests.support.facts import Count
from tests.support.matrix import builds, measure, run


def main(arguments: list[str] | None = None) -> int:
    """Print the generated parts, or write them into the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.support", description=__doc__)
    parser.add_argument(
        "build", nargs="*", help="only these of the lab's builds; tables of others stay"
    )
    parser.add_argument("--dumps", action="store_true", help="only the small cores' table")
    parser.add_argument("--write", metavar="PAGE", type=Path, help="renew the tables of this page")
    chosen = parser.parse_args(arguments)
    parts = {page.DUMPS: page.dumps(counts_of_dumps())}
    if not chosen.dumps:
        found = builds()
        names = chosen.build or list(found)
        tables = [run(name, found[name]) for name in names]
        parts[page.LAB] = page.matrix(tables, chosen.write.read_text() if chosen.write else "")
    if chosen.write is None:
        print("\n\n".join(parts.values()))
        return 0
    text = chosen.write.read_text()
    for part, content in parts.items():
        text = page.replaced(text, part, content)
    chosen.write.write_text(text)
    return 0


def counts_of_dumps() -> dict[str, Count]:
    """What is equal of each small core that the repository brings along."""
    counts = {}
    for core in iter_dumps():
        cell = measure(Sample(core, core.path, own_layouts=True), core.options)
        if cell.count is None:
            raise RuntimeError(f"{core.name}: {cell.refused}")
        counts[core.name.removeprefix("dumps/")] = cell.count
    return counts


if __name__ == "__main__":
    sys.exit(main())
