"""How far a long piece of work has come, such as unpacking a core, on a terminal."""

from __future__ import annotations

import sys
import time

EVERY = 0.2
"""Seconds between two updates of the line."""


class Line:
    """One line on stderr, written over until the work is done."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._next = time.monotonic() + EVERY

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + EVERY
        percent = f" ({done * 100 // total} %)" if total else ""
        text = f"vringcore: {self._doing}, {done >> 20} MiB{percent}"
        end = "\r" + " " * len(text) + "\r" if done == total else ""
        print(f"\r{text}{end}", end="", file=sys.stderr, flush=True)
