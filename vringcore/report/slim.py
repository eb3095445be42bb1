"""What a small core holds, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.report.cells import about, clean
from vringcore.report.page import column_of

if TYPE_CHECKING:
    from vringcore.model.slim import SlimDocument
    from vringcore.report.page import Page


def print_slim(page: Page, document: SlimDocument) -> None:
    """Write what a small core holds and what it does not."""
    of = f"of {clean(document.original)} ({about(document.original_size)})"
    if document.path is None:
        page.line(f"a small core {of} would have about {about(document.size)}")
    else:
        page.line(f"{clean(document.path)}: {about(document.size)} {of}")
    page.line()
    page.table(
        [
            column_of("what", [part.what for part in document.parts], numeric=False),
            column_of("places", [part.ranges for part in document.parts]),
            column_of("bytes", [part.bytes for part in document.parts]),
        ]
    )
    page.line()
    page.line("left out: " + ", ".join(document.left_out))
    if document.masked:
        page.line(f"overwritten: secrets of the command line, in {document.masked} places")
    page.close(document.limits)
