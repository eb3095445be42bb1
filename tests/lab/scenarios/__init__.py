"""The lab's scenarios, a few per module; `ALL` in the order in which they are made."""

from __future__ import annotations

from pathlib import Path

from tests.lab import runner
from tests.lab.scenario import Scenario
from tests.lab.scenarios import aio, engines, failing, held, idle, late, nine, others, stuck

ALL: tuple[Scenario, ...] = (
    stuck.STUCK_MIGRATION,
    stuck.STUCK,
    idle.IDLE,
    nine.NINE_DEVICES,
    held.OUT_OF_ORDER,
    held.HELD_KINDS,
    idle.PAUSED,
    stuck.NO_GUEST_RAM,
    failing.STUCK_THROTTLE,
    failing.IO_ERROR,
    aio.STUCK_NATIVE,
    aio.STUCK_IO_URING,
    late.DRAIN_QUEUE,
    late.MERGED,
    engines.SLOW_THREADS,
    engines.DRIVE_THROTTLE,
    engines.QCOW2_TASKS,
)
NAMES = (*(scenario.name for scenario in ALL), *others.NAMES)


def make(version: str, name: str) -> Path:
    """Makes one case and returns its directory."""
    if name in others.NAMES:
        return others.make(version, name)
    scenario = next(scenario for scenario in ALL if scenario.name == name)
    return runner.make_case(version, scenario)
