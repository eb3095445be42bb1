"""The bar of a scan: cores done, rate, time to go; nothing where nobody watches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from types import TracebackType

    from vringcore.scan.scanner import Scan

EVERY = 0.1
"""Seconds between two updates."""


class Bar:
    """Use it in a ``with`` statement, and call what that gives with the scan."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._bar: Any = None
        self._task: Any = None
        self._next = 0.0

    def __enter__(self) -> Bar | None:
        if not self._out.isatty():
            return None
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(file=self._out),
            transient=True,
        )
        self._task = self._bar.add_task("cores", total=1.0, rate="")
        self._start = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, scan: Scan) -> None:
        """Show how far the scan has come."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        rate = f"{scan.done} read, {scan.done / max(now - self._start, EVERY):.1f}/s"
        if scan.failed:
            rate += f", {scan.failed} unreadable"
        # How many there are nobody knows before the end; how many bytes there are is known.
        self._bar.update(self._task, completed=scan.share, rate=rate)
