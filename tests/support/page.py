"""The generated parts of docs/support.md: written, and read back for the check of the dumps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support import cores, programs
from tests.support.facts import Count
from tests.support.matrix import OWN, Cell, Table

PAGE = Path(__file__).parents[2] / "docs" / "support.md"

LAB, DUMPS = "the matrix", "the small cores"
"""The generated parts, each between a comment that begins and one that ends it."""

_ROW = re.compile(r"^\| (\S+/\S+) \| (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE)


def replaced(page: str, part: str, text: str) -> str:
    """The page with one of its generated parts made anew.

    :raises LookupError: the page has no such part
    """
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    before, found, rest = page.partition(begin)
    _old, ended, after = rest.partition(end)
    if not found or not ended:
        raise LookupError(f"no part between {begin!r} and {end!r}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def matrix(tables: Iterable[Table], page: str = "") -> str:
    """Tables for each build, and why cells are empty.

    The page's tables of builds that are not among them stay.
    """
    old = page.partition(f"<!-- {LAB} -->")[2].partition(f"<!-- end of {LAB} -->")[0]
    sections = {each.partition("\n")[0]: each.strip() for each in old.split("### ")[1:]}
    for table in tables:
        sections[table.build] = "\n".join(_table(table)).strip()
    return "\n\n".join(f"### {sections[build]}" for build in sorted(sections, key=_by_version))


def _by_version(build: str) -> tuple[list[int], str]:
    version, _, variant = build.partition("-")
    return [int(part) for part in version.split(".")], variant


def _table(table: Table) -> Iterator[str]:
    columns = [kind.name for kind in programs.KINDS] + [OWN]
    columns = [each for each in columns if any(each in row for row in table.cells.values())]
    reasons: list[str] = []
    yield table.build
    yield ""
    yield f"QEMU {table.qemu_version}."
    yield ""
    yield f"| core | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for kind in cores.KINDS:
        row = table.cells.get(kind.name)
        if row is not None:
            cells = (_shown(row.get(column), reasons) for column in columns)
            yield f"| {kind.name} | {' | '.join(cells)} |"
    yield ""
    for number, reason in enumerate(reasons, 1):
        yield f"{number}. Refused: {reason}"
    if reasons:
        yield ""
    yield "Every core of the lab, with the debug information in the binary:"
    yield ""
    yield "| core | equal | absent | differing |"
    yield "|---|---|---|---|"
    for name, cell in table.every.items():
        if cell.count is None:
            yield f"| {name} | refused: {_first_line(cell.refused)} | | |"
        else:
            yield _counted(name, cell.count)


def _shown(cell: Cell | None, reasons: list[str]) -> str:
    if cell is None:
        return ""
    if cell.count is None:
        reason = _first_line(cell.refused)
        if reason not in reasons:
            reasons.append(reason)
        return f"refused ({reasons.index(reason) + 1})"
    text = str(cell.count.equal)
    if cell.count.absent:
        text += f", {len(cell.count.absent)} absent"
    if cell.count.differing:
        text += f", **{len(cell.count.differing)} differ**"
    return text


def _first_line(text: str) -> str:
    """An error's first line without paths, which are true of one machine only."""
    return re.sub(r"/\S*/([^/\s:,]+)", r"\1", text.partition("\n")[0])


def dumps(counts: dict[str, Count]) -> str:
    """One row for each small core."""
    lines = ["| small core | equal | absent | differing |", "|---|---|---|---|"]
    lines += [_counted(name, found) for name, found in counts.items()]
    return "\n".join(lines)


def _counted(name: str, found: Count) -> str:
    return f"| {name} | {found.equal} | {len(found.absent)} | {len(found.differing)} |"


def rows_of_dumps(page: str) -> dict[str, tuple[int, int, int]]:
    """Equal, absent and differing facts of each small core, as the page has them."""
    part = page.partition(f"<!-- {DUMPS} -->")[2]
    return {
        name: (int(equal), int(absent), int(differing))
        for name, equal, absent, differing in _ROW.findall(part)
    }
