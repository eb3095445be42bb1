"""What gdb says of event loops and of the machine, and the cores it is asked about."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.cores import NO_LAB, dumps, has_devices, lab_cores
from tests.lab.cases import CoreCase
from tests.lab.gdb_run import LOOPS, write_truth

SCENARIOS = {
    "bql-held",
    "busy",
    "drain-queue",
    "idle",
    "io-uring-migration",
    "microvm",
    "native-migration",
    "nine-devices",
    "nine-packed",
    "paused",
    "scsi-migration",
    "stuck-io-uring",
    "stuck-legacy",
    "stuck-migration",
    "stuck-vhost-user",
    "threads-migration",
    "vhost-user-gone",
}
"""Those whose loops, vCPUs, migrations or interrupts differ from each other."""


def loop_cores() -> list[Any]:
    """The cores that gdb is asked about, and the dumps of which its answer is kept."""
    whole = lab_cores(lambda core: has_devices(core) and core.case.scenario in SCENARIOS)
    kept = dumps(lambda core: has_devices(core) and "event_loops" in core.gdb)
    return kept + (whole or [NO_LAB])


@cache
def truth_of(core: CoreCase) -> dict[str, Any]:
    """What gdb says: the case's own record where it has it, else asked now."""
    kept: dict[str, Any] = core.gdb
    if "event_loops" in kept:
        return kept
    with TemporaryDirectory() as scratch:
        target = Path(scratch) / "loops.json"
        write_truth(core.case.executable, core.path, target, LOOPS)
        said: dict[str, Any] = json.loads(target.read_text())
    return said
