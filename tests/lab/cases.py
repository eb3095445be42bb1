"""Loads finished cases: what the comparison tests iterate over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.lab.paths import cases_directory


@dataclass(frozen=True)
class CoreCase:
    """One core of a case; `kind` is "gcore", "kernel" or "proc" (tests/lab/rawcore.py)."""

    case: Case
    kind: str
    path: Path

    @property
    def name(self) -> str:
        """For test ids: VERSION/SCENARIO/KIND."""
        return f"{self.case.name}/{self.kind}"

    @cached_property
    def gdb(self) -> Any:
        """What gdb read from this core (docs/lab.md, "gdb.json")."""
        return self.case.read(self.path.name.replace("core", "gdb", 1) + ".json")

    @property
    def while_alive(self) -> bool:
        """Whether it was taken while the monitor was asked; else later, as the process died."""
        return self.kind != "kernel"


@dataclass(frozen=True)
class Case:
    """One finished case directory."""

    directory: Path

    @property
    def version(self) -> str:
        """The QEMU version as the lab was asked to build it."""
        return self.directory.parent.name

    @property
    def scenario(self) -> str:
        """The scenario's name."""
        return self.directory.name

    @property
    def name(self) -> str:
        """VERSION/SCENARIO."""
        return f"{self.version}/{self.scenario}"

    @cached_property
    def manifest(self) -> Any:
        """How the case was made and what a reader of it must find."""
        return self.read("manifest.json")

    @cached_property
    def qmp_before(self) -> Any:
        """QEMU's own answers before the gcore core was taken; None if it was not asked."""
        return self.read("qmp-before.json")

    @cached_property
    def qmp_after(self) -> Any:
        """QEMU's own answers after the gcore core was taken; None if it could not answer."""
        return self.read("qmp-after.json")

    @cached_property
    def servers(self) -> Any:
        """What the NBD servers held: a list of ``{"name", "held"}``."""
        return self.read("server.json")

    @cached_property
    def proc(self) -> Any:
        """What /proc said just before the core was taken; None if it was not asked."""
        return self.read("proc.json")

    @property
    def executable(self) -> Path:
        """The program of the core, with debug information."""
        return Path(self.manifest["executable"])

    def cores(self) -> list[CoreCase]:
        """The case's cores; the one taken while the process lived comes first."""
        taken_by = self.manifest.get("taken_by", "gcore")
        kinds = ((taken_by, "core"), ("kernel", "core.kernel"))
        found = [CoreCase(self, kind, self.directory / name) for kind, name in kinds]
        return [core for core in found if core.path.exists()]

    def read(self, name: str) -> Any:
        """One JSON file of the case; None if the case has no such file."""
        path = self.directory / name
        return json.loads(path.read_text()) if path.exists() else None


def iter_cases(root: Path | None = None) -> Iterator[Case]:
    """All finished cases, by version and scenario; none if the lab has made none."""
    manifests = (root or cases_directory()).glob("*/*/manifest.json")
    for manifest in sorted(manifests):
        yield Case(manifest.parent)


def iter_cores(root: Path | None = None) -> Iterator[CoreCase]:
    """All cores of all finished cases."""
    for case in iter_cases(root):
        yield from case.cores()
