"""The dumps themselves: small, whole, deterministic, and nothing in them that must not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import vringcore
from tests.cores import dumps, lab_cores
from tests.dumps.make import make
from tests.lab.cases import DUMPS, NOWHERE, Case, iter_dumps, unpacked
from tests.lab.scenarios.stuck import CANARIES

if TYPE_CHECKING:
    from tests.lab.cases import CoreCase

MEGABYTE = 1_000_000
FILES = sorted(path for path in DUMPS.glob("*/*/*") if path.is_file())


def test_all_of_them_are_a_few_megabytes() -> None:
    assert len(FILES) > 100
    assert sum(path.stat().st_size for path in FILES) < 10 * MEGABYTE


def test_every_version_has_the_incidents_that_matter() -> None:
    names = {core.name.removeprefix("dumps/") for core in iter_dumps()}
    for version in ("7.2", "10.0"):
        for scenario in ("stuck", "stuck-migration"):
            assert {f"{version}/{scenario}/{kind}" for kind in ("gcore", "kernel")} <= names
    assert "7.2-fork/fork-stuck/gcore" in names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DUMPS)))
def test_no_canary_is_in_them(path: Path) -> None:
    data = unpacked(path)
    assert data
    for canary in CANARIES.values():
        for encoding in ("ascii", "utf-16-le"):
            # However long it is, its first 12 characters would be enough to know it.
            assert canary[:12].encode(encoding) not in data


@pytest.mark.parametrize("core", dumps())
def test_every_core_has_its_truth(core: CoreCase) -> None:
    assert core.gdb["devices"]
    assert core.frames
    assert core.case.manifest["expected"]["devices"]
    with core.open() as opened:
        assert opened.info.kind == "slim"
        # What called code that TCG made is guessed: of that nothing but QEMU's process tells.
        # A task management request that is under way is in no list of QEMU's, and was found.
        known = {"frames were guessed", "1 in use of virtio-scsi-device are in no list of QEMU's"}
        assert {limit.what for limit in opened.report().limits} <= known


def test_they_are_read_without_executable_cache_or_home(tmp_path: Path) -> None:
    core = next(iter_dumps())
    run = vringcore(
        *("queues", str(core.path), "--sysroot", NOWHERE, "--no-cache", "--json"),
        HOME=str(tmp_path),
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert len(json.loads(run.stdout)["devices"]) == len(core.gdb["devices"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("core", lab_cores(lambda core: core.case.scenario == "held-kinds"))
def test_the_same_case_gives_the_same_dump(core: CoreCase, tmp_path: Path) -> None:
    first, second = (make(core.case, tmp_path / name) for name in ("first", "second"))
    assert {p.name for p in first.iterdir()} == {p.name for p in second.iterdir()}
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    made = Case(first)
    assert made.read("gdb.json") == core.gdb
    assert made.manifest["expected"] == core.case.manifest["expected"]
    assert made.manifest.keys() <= core.case.manifest.keys()
