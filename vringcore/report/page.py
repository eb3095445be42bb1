"""A page of text: lines, tables that fit the terminal, and the notes that belong under them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.model.values import Absent
from vringcore.report.cells import Footnotes, clean, text_of

if TYPE_CHECKING:
    from rich.console import Console

    from vringcore.model.report import Limitation

GAP = 2
FOLDED = 18
"""Columns that a foldable column keeps at least when others need the room."""
MATTERS = 3
"""The highest rank of a column for which others are folded."""
NAMED = 6
"""Left-out columns that are named; of more, the number is enough."""
STAND_OUT = "bold yellow"
ALARM = "bold red"
FAINT = "dim"

Cell = str | Absent
"""A cell's text; an absent value gets its footnote when its column is really shown."""

_MARK = len("absent[1]")


class Column(msgspec.Struct):
    """A column of a table, one cell per row.

    ``rank`` 0 is always shown; of the others those with the highest rank are left out first when
    the terminal is too narrow.
    """

    header: str
    cells: Sequence[Cell]
    rank: int = 0
    numeric: bool = False
    foldable: bool = False

    @property
    def whole(self) -> int:
        """The width in characters that shows every cell on one line."""
        widest = max(map(len, split_header(self.header).split("\n")))
        for cell in self.cells:
            if isinstance(cell, Absent):
                widest = max(widest, _MARK)
            else:
                widest = max(widest, *(len(line) for line in cell.split("\n")))
        return widest

    @property
    def least(self) -> int:
        """The width below which a cell is cut, or folded more than it should be."""
        return min(self.whole, FOLDED) if self.foldable else self.whole


def column_of(header: str, values: Iterable[Any], rank: int = 0, *, numeric: bool = True) -> Column:
    """Return a column of model values, the absent ones kept for their footnotes."""
    cells = [value if isinstance(value, Absent) else text_of(value) for value in values]
    return Column(clean(header), cells, rank, numeric)


def split_header(name: str) -> str:
    """Break a C name into two lines where that makes it narrowest: ``last_avail`` / ``_idx``."""
    places = [i for i, each in enumerate(name) if each in "_. " and i]
    if not places or len(name) <= (8 if " " in name else 6):
        return name
    best = min(places, key=lambda i: (max(i, len(name) - i), -i))
    return f"{name[:best]}\n{name[best:].lstrip()}"


class Page:
    """What one verb prints, from its header line to its notes."""

    def __init__(self, console: Console, *, unbounded: bool) -> None:
        """Write to ``console``; ``unbounded`` when its lines may be as long as they need."""
        self._console = console
        self.unbounded = unbounded
        self._left_out: list[str] = []
        self._remarks: list[str] = []
        self.notes = Footnotes()

    def fits(self, columns: int) -> bool:
        """Tell whether a line of so many columns is printed as one."""
        return self.unbounded or columns <= self._console.width

    def header(self, text: str) -> None:
        """Print the line that says which core this is."""
        self.line(text, "bold")

    def line(self, text: str = "", style: str = "", *, indent: int = 0, hang: int = 0) -> None:
        """Print a line; a long one is folded at words on a terminal, as far indented as it began.

        :param indent: columns before the text
        :param hang: columns before what a long line is folded into, but for the first
        """
        from rich.text import Text

        text = clean(text)
        room = self._console.width - hang
        if hang and not self.fits(len(text)) and room >= 2 * FOLDED:
            for part in Text(text[hang:]).wrap(self._console, room):
                self._console.print(Text(text[:hang] + part.plain.rstrip(), style=style))
                text = " " * hang
            return
        line = Text(text, style=style)
        if not indent:
            self._console.print(line)
            return
        from rich.padding import Padding

        self._console.print(Padding(line, (0, 0, 0, indent), expand=False))

    def table(self, columns: Iterable[Column], styles: Sequence[str] = ()) -> None:
        """Print a table; ``styles`` has one entry per row.

        No value is cut: where not even the columns that are always shown fit, lines are longer
        than the terminal is wide.
        """
        from rich.table import Table
        from rich.text import Text

        kept = self._fitting(list(columns))
        needed = sum(column.least + GAP for column in kept) - GAP
        table = Table(
            box=None,
            padding=(0, GAP, 0, 0),
            pad_edge=False,
            show_edge=False,
            header_style="bold",
            width=None if self.fits(needed) else needed,
        )
        for column, header in zip(kept, self._headers(kept), strict=True):
            table.add_column(
                Text(header),
                justify="right" if column.numeric else "left",
                no_wrap=not column.foldable,
                overflow="fold",
            )
        for index, row in enumerate(zip(*(column.cells for column in kept), strict=True)):
            style = styles[index] if styles else ""
            table.add_row(*(Text(self.notes.text(cell)) for cell in row), style=style)
        self._console.print(table, crop=False)

    def listing(self, pairs: Sequence[tuple[str, str]], indent: int = 2) -> None:
        """Print names and their values, one pair a line, the values aligned."""
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, GAP, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in pairs:
            table.add_row(Text(clean(name)), Text(clean(value)))
        self._console.print(Padding(table, (0, 0, 0, indent), expand=False))

    def remark(self, text: str) -> None:
        """Add a note that belongs under the page."""
        self._remarks.append(text)

    def close(self, limits: Sequence[Limitation]) -> None:
        """Print what stands under the page: footnotes, left-out columns, remarks, limits."""
        lines = self.notes.lines()
        if self._left_out:
            named = ", ".join(self._left_out[:NAMED])
            more = ", ..." if len(self._left_out) > NAMED else ""
            columns = "column" if len(self._left_out) == 1 else "columns"
            lines.append(
                f"note: {len(self._left_out)} {columns} left out at this width: {named}{more}"
                " (a wider terminal, a pipe and --json show all)"
            )
        lines += [f"note: {text}" for text in self._remarks]
        for limit in limits:
            hint = f"; {clean(limit.hint)}" if limit.hint else ""
            lines.append(f"note: {clean(limit.what)}: {clean(limit.why)}{hint}")
        if lines:
            self.line()
        for line in lines:
            self.line(line, FAINT)

    def _headers(self, columns: list[Column]) -> list[str]:
        """Return the headers, split where width counts, all of the same height."""
        if self.unbounded:
            return [column.header for column in columns]
        headers = [split_header(column.header) for column in columns]
        height = max(header.count("\n") for header in headers)
        return ["\n" * (height - header.count("\n")) + header for header in headers]

    def _fitting(self, columns: list[Column]) -> list[Column]:
        """Drop the columns that matter least until the rest fits the terminal's width.

        Of the others the foldable ones are folded to make room for what matters, and whole again
        before there is room for what does not.
        """
        if self.unbounded:
            return columns
        room = self._console.width + GAP
        by_rank = sorted(columns, key=lambda column: column.rank)
        kept: list[Column] = []
        for column in by_rank:
            needed = column.least + GAP
            if column.rank > MATTERS:
                needed += sum(each.whole - each.least for each in kept)
            if column.rank == 0 or needed <= room:
                kept.append(column)
                room -= column.least + GAP
        self._left_out += [
            column.header
            for column in by_rank
            if column not in kept and column.header not in self._left_out
        ]
        return [column for column in columns if column in kept]
