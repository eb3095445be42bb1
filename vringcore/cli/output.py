"""Where a verb's answer goes: JSON or text, on a terminal or not."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from vringcore.errors import FileError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vringcore.report.page import Page


def write_json(document: Any) -> None:
    """Write a document of the model as one line of JSON."""
    from vringcore.model.values import encode

    _write(encode(document) + b"\n")


def write_text(text: str) -> None:
    """Write lines of text as they are, but for what could steer a terminal."""
    if not text.isprintable():
        from vringcore.report.cells import clean

        text = "\n".join(map(clean, text.split("\n")))
    _write(f"{text}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def write_bytes(data: bytes) -> None:
    """Write bytes as they are."""
    _write(data)


def write_page(arguments: argparse.Namespace, write: Callable[[Page], None]) -> None:
    """Write a page of text: fitted and coloured on a terminal, whole and plain elsewhere."""
    from vringcore.report.text import render

    text = render(write, width=_width(), color=_color(arguments.color))
    _write(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def _write(data: bytes) -> None:
    """Write all of it now, so that what stands in the way is told as an error.

    :raises BrokenPipeError: the reader went away
    :raises FileError: anything else, such as a full disk
    """
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What stays in the buffer would fail once more at the end of the process.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        raise FileError(
            "the output cannot be written", seen=error.strerror or str(error)
        ) from error


def _width() -> int | None:
    """Return the columns to fit, None for no bound; ``COLUMNS`` decides where it is set."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    if not sys.stdout.isatty():
        return None
    return os.get_terminal_size(sys.stdout.fileno()).columns or 80


def _color(wish: str) -> bool:
    """``auto`` is a terminal that can, with nobody objecting (https://no-color.org)."""
    if wish != "auto":
        return wish == "always"
    able = os.environ.get("TERM", "") not in ("", "dumb") and sys.stdout.isatty()
    return able and not os.environ.get("NO_COLOR")
