"""A scenario in its stuck state, alive: what is captured from, and what it must be captured as."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import guest, proc, rawcore, runner, scenarios
from tests.lab.qmp import Monitor
from tests.lab.scenario import Scenario
from tests.lab.session import Session

NOBODY = 65534


@dataclass(frozen=True)
class Live:
    """A QEMU that hangs; `executable` is its program, `directory` may be written by its user."""

    session: Session
    executable: Path
    directory: Path
    user: int | None

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self.session.machine.pid

    @property
    def monitor(self) -> Monitor:
        """Its monitor, which answers."""
        return self.session.machine.monitor

    @property
    def scenario(self) -> Scenario:
        """What was brought about."""
        return self.session.scenario

    @property
    def facts(self) -> dict[str, Any]:
        """What QEMU said of itself when it had come to hang (docs/lab.md, "qmp-*.json")."""
        if self.session.facts is None:
            raise RuntimeError(f"{self.scenario.name} does not ask the monitor")
        return self.session.facts

    def held(self) -> list[dict[str, Any]]:
        """What its servers hold (docs/lab.md, "server.json")."""
        return [server.describe() for server in self.session.servers.values()]

    def proc(self) -> dict[str, Any]:
        """What /proc says of it now (docs/lab.md, "proc.json")."""
        return proc.facts(self.pid)

    def rawcore(self, target: Path) -> float:
        """Takes a whole core of it, by none of vringcore; returns the seconds it took."""
        return rawcore.write(self.pid, target)


@contextmanager
def live(version: str, name: str, *, user: int | None = None) -> Iterator[Live]:
    """Brings a scenario about and keeps it alive for the block; nothing of it is left after that.

    :param user: the user and group that QEMU runs as, from public copies of its files
    """
    scenario = next(known for known in scenarios.ALL if known.name == name)
    program = runner.executable(version, runner.SYSTEM_EMULATOR)
    if not program.exists():
        pytest.skip(f"QEMU {version} is not built: `python -m tests.lab build {version}`")
    kernel = guest.kernel()
    with tempfile.TemporaryDirectory(prefix="vringcore-lab-") as scratch:
        directory = Path(scratch)
        if user is not None:
            directory.chmod(0o777)
            program = Path(shutil.copy(program, directory))
            kernel = Path(shutil.copy(kernel, directory))
        with runner.running(scenario, program, directory, kernel=kernel, user=user) as session:
            yield Live(session, program, directory, user)
