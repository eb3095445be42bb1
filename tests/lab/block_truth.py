"""What gdb says of the block layer of a whole core, asked once per test run."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.cores import has_devices
from tests.lab.cases import CoreCase
from tests.lab.gdb_run import write_truth

SCENARIOS = {
    "bql-held",
    "busy",
    "drain-queue",
    "drive-throttle",
    "fork-stuck",
    "io-error",
    "io-uring-migration",
    "merged",
    "nine-devices",
    "one-of-two",
    "qcow2-tasks",
    "scsi-migration",
    "scsi-reset",
    "slow-threads",
    "stuck",
    "stuck-io-uring",
    "stuck-migration",
    "stuck-native",
    "stuck-scsi",
    "stuck-threads",
    "stuck-throttle",
}
"""Those in which the block layer has something to do, and two in which it has not."""

BLOCK = Path(__file__).with_name("gdb_block.py")


def is_compared(core: CoreCase) -> bool:
    """Whether gdb has read the core, and there is something to compare."""
    return has_devices(core) and core.case.scenario in SCENARIOS


@cache
def truth_of(core: CoreCase) -> Any:
    with TemporaryDirectory() as scratch:
        return block_truth(core.case.executable, core.path, Path(scratch))


def block_truth(executable: Path, core: Path, scratch: Path) -> Any:
    """Return what tests/lab/gdb_block.py writes of a core."""
    target = scratch / "block.json"
    write_truth(executable, core, target, BLOCK)
    return json.loads(target.read_text())
