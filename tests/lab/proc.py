"""What /proc says of a process: the truth about the state of its threads and its open files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def facts(pid: int) -> dict[str, Any]:
    """The content of proc.json (docs/lab.md)."""
    directory = Path(f"/proc/{pid}")
    numbers = sorted(map(int, os.listdir(directory / "task")))
    return {
        "pid": pid,
        "threads": [thread(pid, number) for number in numbers],
        "files": {name: _link(directory / "fd" / name) for name in os.listdir(directory / "fd")},
    }


def thread(pid: int, lwp: int) -> dict[str, Any]:
    """What /proc says of one thread, texts as they are."""
    task = Path(f"/proc/{pid}/task/{lwp}")
    return {
        "lwp": lwp,
        "comm": (task / "comm").read_text().rstrip("\n"),
        "state": state(pid, lwp),
        "syscall": (task / "syscall").read_text().strip(),
        "stack": (task / "stack").read_text().splitlines(),
        "wchan": (task / "wchan").read_text().strip(),
    }


def state(pid: int, lwp: int) -> str:
    """The letter of a thread's state."""
    stat = Path(f"/proc/{pid}/task/{lwp}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def in_state(pid: int, letter: str) -> list[int]:
    """The threads of a process that are in a state now."""
    numbers = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    return [number for number in numbers if state(pid, number) == letter]


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""
