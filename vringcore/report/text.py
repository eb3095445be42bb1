"""From a page to the text that is written out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from vringcore.report.page import Page

if TYPE_CHECKING:
    from collections.abc import Callable

UNBOUNDED = 1 << 20
"""Columns given to a page that need not fit a terminal: every line is as long as it must be."""


def render(write: Callable[[Page], None], *, width: int | None, color: bool) -> str:
    """Return what ``write`` puts on a page.

    :param width: the terminal's columns; None for a file or a pipe, where no line is folded and
        no column left out
    :param color: whether to use ANSI colours
    """
    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out,
        width=width or UNBOUNDED,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )
    write(Page(console, unbounded=width is None))
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))
