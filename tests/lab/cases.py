"""Loads finished cases: what the comparison tests iterate over.

There are two kinds: the lab's own, whose cores are whole and need their executable, and the dumps
(docs/dumps.md), whose cores are small and are opened alone. Their files are the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import zstandard

import vringcore
from tests.lab.paths import cases_directory, is_tested
from vringcore.layout.store import LayoutStore
from vringcore.options import Options
from vringcore.qemu.process import Process, open_process

DUMPS = Path(__file__).parents[1] / "dumps"
PACKED = ".zst"

NOWHERE = str(Path(__file__) / "nothing")
"""A system root that has no file at all."""


SHARED_RAM = ("shared-ram", "huge-ram")
"""The scenarios whose core by gcore is of the default coredump_filter, the kernel's of all bits."""


@dataclass(frozen=True)
class CoreCase:
    """One core of a case; `kind` is "gcore", "kernel" or "proc" (tests/lab/rawcore.py)."""

    case: Case
    kind: str
    path: Path

    @property
    def name(self) -> str:
        """For test ids: VERSION/SCENARIO/KIND, of a dump dumps/VERSION/SCENARIO/KIND."""
        return f"{self.case.name}/{self.kind}"

    @property
    def whole(self) -> bool:
        """Whether it is as it was taken; else it is a dump: a small core of it."""
        return self.case.directory.parent.parent != DUMPS

    @property
    def options(self) -> Options:
        """How it is opened: with its executable, a dump without any other file."""
        if self.whole:
            root = self.case.manifest.get("sysroot")  # of a program for another machine
            debug = (f"{root}/usr/lib/debug",) if root else ()
            return Options(executable=str(self.case.executable), debug_dirs=debug)
        return Options(sysroot=NOWHERE)

    def open(self) -> vringcore.Core:
        """Open it; nothing is cached, in memory or on disk."""
        return vringcore.Core(self.open_process())

    def open_process(self) -> Process:
        """Open it for questions that no report answers."""
        return open_process(str(self.path), self.options, LayoutStore())

    @cached_property
    def gdb(self) -> Any:
        """What gdb read from this core (docs/lab.md, "gdb.json")."""
        return self.case.read(self.beside("gdb"))

    @cached_property
    def printed(self) -> Any:
        """What gdb printed for expressions, by its command; None in the lab."""
        return self.case.read(self.beside("printed"))

    @cached_property
    def frames(self) -> Any:
        """The frames of each thread as gdb has them (tests/lab/gdb_frames.py); None in the lab."""
        return self.case.read(self.beside("frames"))

    @property
    def while_alive(self) -> bool:
        """Whether it was taken while the monitor was asked; else later, as the process died."""
        return self.kind != "kernel"

    @property
    def filtered(self) -> bool:
        """Whether shared guest RAM is left out, as it is by default."""
        return self.kind == "gcore" and self.case.scenario in SHARED_RAM

    @property
    def unfiltered(self) -> bool:
        """Whether pages of files are in it, the program's among them."""
        return self.kind == "kernel" and self.case.scenario in SHARED_RAM

    def beside(self, word: str) -> str:
        """The name of a file about this core: ``gdb.json`` of `core`, ``gdb.kernel.json`` …"""
        return self.path.name.removesuffix(PACKED).replace("core", word, 1) + ".json"


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
        """VERSION/SCENARIO, of a dump dumps/VERSION/SCENARIO."""
        name = f"{self.version}/{self.scenario}"
        return f"dumps/{name}" if self.directory.parent.parent == DUMPS else name

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

    @property
    def for_arm64(self) -> bool:
        """Whether the core is of a process on an arm64 host (docs/architectures.md)."""
        return self.version.endswith("-arm64")

    def cores(self) -> list[CoreCase]:
        """The case's cores; the one taken while the process lived comes first."""
        taken_by = self.manifest.get("taken_by", "gcore")
        kinds = ((taken_by, "core"), ("kernel", "core.kernel"))
        paths = [(kind, self._path(name)) for kind, name in kinds]
        return [CoreCase(self, kind, path) for kind, path in paths if path.exists()]

    def read(self, name: str) -> Any:
        """One JSON file of the case; None if the case has no such file."""
        path = self._path(name)
        if not path.exists():
            return None
        return json.loads(unpacked(path))

    def _path(self, name: str) -> Path:
        packed = self.directory / (name + PACKED)
        return packed if packed.exists() else self.directory / name


def unpacked(path: Path) -> bytes:
    """The content of a file; of one that is packed, what is in it."""
    data = path.read_bytes()
    return zstandard.ZstdDecompressor().decompress(data) if path.suffix == PACKED else data


def iter_cases(root: Path | None = None) -> Iterator[Case]:
    """All finished cases, by version and scenario; none if the lab has made none.

    Of the lab's only those of the versions that are tested.
    """
    for manifest in sorted((root or cases_directory()).glob("*/*/manifest.json")):
        case = Case(manifest.parent)
        if root == DUMPS or is_tested(case.version):
            yield case


def iter_cores(root: Path | None = None) -> Iterator[CoreCase]:
    """All cores of all finished cases."""
    for case in iter_cases(root):
        yield from case.cores()


def iter_dumps() -> Iterator[CoreCase]:
    """All cores that the repository brings along, small ones."""
    yield from iter_cores(DUMPS)
