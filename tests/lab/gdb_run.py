"""Runs gdb over a core with the oracle script."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.lab import arm64, forms

_SCRIPT = Path(__file__).with_name("gdb_truth.py")
FRAMES = Path(__file__).with_name("gdb_frames.py")
LOOPS = Path(__file__).with_name("gdb_loops.py")


def write_truth(executable: Path, core: Path, target: Path, script: Path = _SCRIPT) -> None:
    """Lets gdb, and nothing of ours, read the core; writes what it said as JSON."""
    command = [
        *arm64.debugger(executable),
        "-batch",
        "-nx",
        "-x",
        str(script),
        str(executable),
        str(core),
    ]
    environment = {**os.environ, "VRINGCORE_LAB_TRUTH": str(target)}
    if forms.is_form(executable.parent.name):
        environment["VRINGCORE_LAB_IN_PART"] = "1"
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if not target.exists():
        raise RuntimeError(f"gdb wrote no truth for {core}:\n{ended.stdout}\n{ended.stderr}")
