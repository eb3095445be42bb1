"""The lab's scenarios, one module each; `ALL` in the order in which they are made."""

from __future__ import annotations

from tests.lab.scenario import Scenario
from tests.lab.scenarios import stuck

ALL: tuple[Scenario, ...] = (stuck.STUCK_MIGRATION, stuck.STUCK)
