"""Cores: by gcore while the process lives on, and by the kernel as it dies."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.lab.machine import Machine

_CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


def gcore(pid: int, target: Path, seconds: float = 120.0) -> float:
    """Takes a core of a running process with gdb's gcore; returns the seconds it took.

    The process may be frozen for ever if one of its threads sleeps uninterruptibly; the time
    limit then ends gdb.
    """
    started = time.monotonic()
    prefix = target.with_name(target.name + ".gcore")
    subprocess.run(
        ["gcore", "-o", str(prefix), str(pid)], check=True, capture_output=True, timeout=seconds
    )
    prefix.with_name(f"{prefix.name}.{pid}").rename(target)
    _make_sparse(target)
    return time.monotonic() - started


def kernel_core_refusal() -> str | None:
    """Why the kernel would not write a core into the working directory, or None if it does."""
    pattern = _CORE_PATTERN.read_text().strip()
    if pattern.startswith(("|", "/")):
        return f"/proc/sys/kernel/core_pattern is {pattern!r}: it must name a file without a path"
    return None


def kernel_core(machine: Machine, directory: Path, target: Path) -> None:
    """Ends the machine by SIGABRT and moves the core the kernel wrote in `directory`."""
    machine.abort()
    stem = _CORE_PATTERN.read_text().strip().partition("%")[0] or "core"
    written = [path for path in directory.iterdir() if path.name.startswith(stem)]
    if len(written) != 1:
        raise RuntimeError(f"the kernel left {len(written)} cores in {directory}, expected 1")
    _copy_sparse(written[0], target)
    written[0].unlink()


def _copy_sparse(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", str(source), str(target)], check=True)


def _make_sparse(core: Path) -> None:
    sparse = core.with_name(core.name + ".sparse")
    _copy_sparse(core, sparse)
    sparse.replace(core)
