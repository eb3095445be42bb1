"""Runs the matrix: every kind of core with every kind of debug information of a build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import vringcore
from tests.lab.cases import CoreCase, iter_cores
from tests.lab.paths import forms_cases_directory, lab_root
from tests.support import cores, programs
from tests.support.cores import Sample
from tests.support.facts import PARTS, Count, compare
from vringcore.errors import VringcoreError
from vringcore.layout.store import LayoutStore
from vringcore.options import Options
from vringcore.qemu.process import open_process

OWN = "its own"
"""The column of cores that hold the layouts they need."""


@dataclass
class Cell:
    """What came of one core with one kind of debug information; `refused` is the error's words."""

    count: Count | None = None
    refused: str = ""


@dataclass
class Table:
    """One build: cells by kind of core and kind of debug information, and all of its cores."""

    build: str
    qemu_version: str
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    every: dict[str, Cell] = field(default_factory=dict)


def builds() -> dict[str, dict[str, CoreCase]]:
    """The lab's cores of which gdb has read the devices, by build, then by scenario and kind."""
    found: dict[str, dict[str, CoreCase]] = {}
    for core in (*iter_cores(), *iter_cores(forms_cases_directory())):
        if core.gdb is not None and "devices" in core.gdb:
            found.setdefault(core.case.version, {})[f"{core.case.scenario}/{core.kind}"] = core
    return found


def run(build: str, found: dict[str, CoreCase]) -> Table:
    """Fill the table of one build."""
    one = next(iter(found.values()))
    table = Table(build, str(one.case.manifest["qemu_version"]))
    with _scratch() as scratch:
        samples = dict(_samples(found, scratch))
        for kind in programs.KINDS:
            if kind.missing(one.case.executable):
                continue
            place = scratch / kind.name.replace(" ", "-").replace("/", "-")
            place.mkdir()
            store = LayoutStore()
            with _environment(kind, place):
                try:
                    given = kind.make(one.case.executable, place)
                except subprocess.CalledProcessError as failed:
                    # dwz knows nothing of split units, nor of clang's tables.
                    print(f"{build}, {kind.name}: {failed}: {failed.stderr!r}", file=sys.stderr)
                    continue
                for row, sample in samples.items():
                    column = OWN if sample.own_layouts else kind.name
                    if _is_run(row, kind) and not table.cells.get(row.name, {}).get(column):
                        cell = measure(sample, sample.options(given), store)
                        table.cells.setdefault(row.name, {})[column] = cell
            shutil.rmtree(place)
    store = LayoutStore()
    for name, core in found.items():
        table.every[name] = measure(Sample(core, core.path), core.options, store)
    return table


def measure(sample: Sample, options: Options, store: LayoutStore | None = None) -> Cell:
    """Open a core and hold its report against the truth."""
    try:
        process = open_process(str(sample.path), options, store or LayoutStore())
        with vringcore.Core(process) as core:
            report = core.report(PARTS)
    except VringcoreError as error:
        return Cell(refused=str(error))
    return Cell(compare(sample.case, report))


def _is_run(row: cores.CoreKind, kind: programs.DebugKind) -> bool:
    return not row.wrapped or kind is programs.KINDS[0]


def _samples(found: dict[str, CoreCase], scratch: Path) -> Iterator[tuple[cores.CoreKind, Sample]]:
    for number, kind in enumerate(cores.KINDS):
        place = scratch / f"core-{number}"
        place.mkdir()
        sample = kind.make(found, place)
        if sample is not None:
            yield kind, sample


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory for files of some hundred megabytes."""
    root = lab_root() / "work"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="support-", dir=root) as made:
        yield Path(made)


@contextmanager
def _environment(kind: programs.DebugKind, place: Path) -> Iterator[None]:
    added = kind.environment(place) if kind.environment is not None else {}
    before = dict(os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
