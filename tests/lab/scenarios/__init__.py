"""The lab's scenarios, one module each; `ALL` in the order in which they are made."""

from __future__ import annotations

from pathlib import Path

from tests.lab import runner
from tests.lab.scenario import Scenario
from tests.lab.scenarios import stuck

ALL: tuple[Scenario, ...] = (stuck.STUCK_MIGRATION, stuck.STUCK)
NAMES = tuple(scenario.name for scenario in ALL)


def make(version: str, name: str) -> Path | None:
    """Makes one case and returns its directory."""
    scenario = next(scenario for scenario in ALL if scenario.name == name)
    return runner.make_case(version, scenario)
