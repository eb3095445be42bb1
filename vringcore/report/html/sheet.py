"""What a verb prints, as headings, paragraphs, listings and tables of an HTML page.

The verbs' own functions write to a :class:`Sheet` as they write to a terminal's page, so the two
never differ in what they say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.report.cells import NOTHING, Footnotes
from vringcore.report.page import ALARM, FAINT, STAND_OUT, Column, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vringcore.model.report import Limitation, Report

HEADING = "bold"
"""The style of lines that begin something new."""

CLASSES = {STAND_OUT: "busy", ALARM: "alarm", FAINT: "faint"}
"""Names of styles in the page's own style sheet."""

SAME_FROM = 3
"""The rank from which on a column of one value is told in a sentence, not shown."""


class Cell(msgspec.Struct, frozen=True):
    """A cell of a table; ``lines`` has one entry for each line."""

    lines: tuple[str, ...]
    numeric: bool = False


class Block(msgspec.Struct, frozen=True):
    """A paragraph (``text``), a listing (``pairs``) or a table (``header`` and ``rows``)."""

    text: str = ""
    style: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    header: tuple[Cell, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    styles: tuple[str, ...] = ()


class Part(msgspec.Struct):
    """A heading and what stands under it; the first part of a sheet may have no heading."""

    title: str = ""
    blocks: list[Block] = []


class Sheet(Page):
    """A page whose lines and tables are kept."""

    def __init__(self) -> None:
        self.unbounded = True
        self.notes = Footnotes()
        self.parts = [Part()]
        self.footnotes: list[str] = []
        self.remarks: list[str] = []

    def header(self, text: str) -> None:
        """Leave out which core it is: the HTML page says so once."""

    def line(self, text: str = "", style: str = "", *, indent: int = 0, hang: int = 0) -> None:  # noqa: ARG002
        """Keep a line; a bold one begins a part."""
        text = text.strip()
        if text and style == HEADING:
            self.parts.append(Part(text))
        elif text:
            self._add(Block(text=text, style=CLASSES.get(style, "")))

    def table(self, columns: Iterable[Column], styles: Sequence[str] = ()) -> None:
        """Keep a table; what is the same in every row and matters little is told in a line."""
        kept: list[Column] = []
        same: list[Column] = []
        for column in columns:
            cells = {str(cell) for cell in column.cells}
            alike = len(cells) == 1 and len(column.cells) > 1 and column.rank >= SAME_FROM
            (same if alike else kept).append(column)
        told = [f"{each.header} {self.notes.text(each.cells[0])}" for each in same]
        if told:
            self._add(Block(text=f"In every row: {', '.join(told)}.", style="faint"))
        rows = zip(*(map(self._cell, column.cells) for column in kept), strict=True)
        self._add(
            Block(
                header=tuple(Cell((column.header,), column.numeric) for column in kept),
                rows=tuple(
                    tuple(
                        Cell(lines, column.numeric) for lines, column in zip(row, kept, strict=True)
                    )
                    for row in rows
                ),
                styles=tuple(CLASSES.get(style, "") for style in styles),
            )
        )

    def listing(self, pairs: Sequence[tuple[str, str]], indent: int = 2) -> None:  # noqa: ARG002
        """Keep names and their values."""
        self._add(Block(pairs=tuple(pairs)))

    def remark(self, text: str) -> None:
        """Keep a note about the whole core: every verb's sheet has it, the page once."""
        self.remarks.append(text)

    def close(self, limits: Sequence[Limitation]) -> None:  # noqa: ARG002
        """Put the footnotes under the sheet; the page has the limits of all in one place."""
        self.footnotes = self.notes.lines()

    @property
    def filled(self) -> list[Part]:
        """The parts that say anything."""
        return [part for part in self.parts if part.title or part.blocks]

    def _add(self, block: Block) -> None:
        self.parts[-1].blocks.append(block)

    def _cell(self, cell: object) -> tuple[str, ...]:
        return tuple(self.notes.text(cell).split("\n")) or (NOTHING,)


def sheet_of(write: Callable[[Sheet], None]) -> Sheet:
    """Return what ``write`` puts on a sheet."""
    sheet = Sheet()
    write(sheet)
    return sheet


def verb_sheet(write: Callable[..., None], report: Report, *, detailed: bool) -> Sheet:
    """Return what a verb prints of a report.

    :param write: the verb's function, such as ``print_queues``
    """
    return sheet_of(lambda sheet: write(sheet, report, detailed=detailed))
