"""Runs the command line as its users do: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def vringcore(
    *words: str, stdin: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``vringcore WORDS`` with a plain environment and return what it said."""
    return subprocess.run(
        [sys.executable, "-m", "vringcore", *words],
        cwd=ROOT,
        env=_plain() | environment,
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _plain() -> dict[str, str]:
    """Return the environment without what changes the output."""
    changes = {"COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM", "PYTHONWARNINGS"}
    return {name: value for name, value in os.environ.items() if name not in changes}
