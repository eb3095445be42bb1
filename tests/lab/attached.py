"""What gdb reads of a running QEMU's queues, where the monitor cannot tell (QEMU before 7.2)."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).with_name("gdb_queues.py")


def virtio_devices(pid: int) -> list[dict[str, Any]]:
    """Every device as ``{"path", "queues"}``; a queue has some members by QMP's names.

    The process stands still while gdb is attached.
    """
    executable = os.readlink(f"/proc/{pid}/exe")
    command = ["gdb", "-batch", "-nx", "-p", str(pid), "-x", str(_SCRIPT), executable]
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "queues.json"
        environment = {**os.environ, "VRINGCORE_LAB_QUEUES": str(answer)}
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120
        )
        if not answer.exists():
            raise RuntimeError(f"gdb said nothing of {pid}:\n{ended.stdout}\n{ended.stderr}")
        found: list[dict[str, Any]] = json.loads(answer.read_text())
    return found
