"""Cores without notes, with 70,000 segments, of containers, of a QEMU that was upgraded since."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.cores import lab_cores
from tests.lab.cases import NOWHERE, CoreCase
from tests.lab.reshaped import AUXV, FILE, PRSTATUS, Reshaped
from vringcore.errors import ExecutableMismatchError, VringcoreError
from vringcore.layout.store import LayoutStore
from vringcore.model.report import Tool
from vringcore.model.values import encode
from vringcore.options import Options
from vringcore.qemu.precheck import precheck_core

pytestmark = pytest.mark.lab

STORE = LayoutStore()
FACTS = {"last_avail_idx": "last_avail_idx", "used_idx": "used_idx", "in_use": "inuse"}
"""Attributes, and gdb's members."""


@pytest.fixture(
    scope="module",
    params=lab_cores(lambda core: core.case.name == "7.2/stuck"),
)
def case(request: pytest.FixtureRequest) -> CoreCase:
    assert isinstance(request.param, CoreCase)
    return request.param


@pytest.fixture(scope="module")
def reshaped(case: CoreCase, tmp_path_factory: pytest.TempPathFactory) -> Reshaped:
    return Reshaped(case.path, tmp_path_factory.mktemp("core"))


def devices(path: Path, executable: Path | None, **more: Any) -> tuple[Any, ...]:
    chosen = {"sysroot": NOWHERE, "executable": executable, "store": STORE} | more
    with vringcore.open_core(path, **chosen) as core:
        found = core.virtio_devices()
        assert core.why().verdict
    return found


def as_gdb_has_them(case: CoreCase, found: tuple[Any, ...]) -> None:
    """Every queue's numbers are gdb's, of the core before it was reshaped."""
    compared = 0
    for device, truth in zip(found, case.gdb["devices"], strict=True):
        for queue, row in zip(device.queues, truth["queues"], strict=True):
            for name, member in FACTS.items():
                assert getattr(queue, name) == row["fields"][member]
                compared += 1
    assert compared


@pytest.mark.parametrize(
    "lost",
    [(), (PRSTATUS,), (AUXV,), (FILE,), (AUXV, FILE), (PRSTATUS, AUXV, FILE)],
    ids=lambda lost: "-".join(f"{kind:#x}" for kind in lost) or "none",
)
def test_notes_that_are_missing(case: CoreCase, reshaped: Reshaped, lost: tuple[int, ...]) -> None:
    path = reshaped.write(reshaped.without(*lost), sections=False)
    as_gdb_has_them(case, devices(path, case.case.executable))
    checked = precheck_core(
        str(path), Options(executable=str(case.case.executable)), Tool("vringcore", "test")
    )
    said = {each.verb: each.answer for each in checked.answers}
    assert said["queues"] == "yes"
    # The command line, which tells how much RAM there is, is found by NT_AUXV.
    assert said["ring"] == "yes" or AUXV in lost
    assert said["backtrace"] == ("no" if PRSTATUS in lost else "yes")
    assert checked.modules or FILE in lost


def test_no_notes_at_all(case: CoreCase, reshaped: Reshaped) -> None:
    path = reshaped.write(None, sections=False)
    as_gdb_has_them(case, devices(path, case.case.executable))


def test_seventy_thousand_segments(case: CoreCase, reshaped: Reshaped) -> None:
    path = reshaped.write(reshaped.notes, more=70_000)
    start = time.process_time()
    found = devices(path, case.case.executable)
    assert time.process_time() - start < 5
    as_gdb_has_them(case, found)


def of_a_container(name: bytes) -> bytes:
    """A path of another mount namespace."""
    return b"/opt/container/bin/" + name.rpartition(b"/")[2] if name.startswith(b"/") else name


def test_the_paths_of_a_container(case: CoreCase, reshaped: Reshaped, tmp_path: Path) -> None:
    executable = case.case.executable
    path = reshaped.write(reshaped.renamed(of_a_container))
    as_gdb_has_them(case, devices(path, executable))
    # In the tree of the container
    inside = tmp_path / "opt" / "container" / "bin" / executable.name
    inside.parent.mkdir(parents=True)
    inside.symlink_to(tmp_path / "program")
    (tmp_path / "program").hardlink_to(executable)
    as_gdb_has_them(case, devices(path, None, sysroot=tmp_path))
    # By build-id
    build_id = case.case.manifest["build_id"]
    by_id = tmp_path / "debug" / ".build-id" / build_id[:2] / build_id[2:]
    by_id.parent.mkdir(parents=True)
    by_id.symlink_to(executable)
    as_gdb_has_them(case, devices(path, None, debug_dirs=[tmp_path / "debug"]))
    # Beside the core
    beside = reshaped.path.with_name(executable.name)
    beside.symlink_to(executable)
    as_gdb_has_them(case, devices(path, None))
    beside.unlink()


def test_a_qemu_upgraded_since(case: CoreCase, reshaped: Reshaped, tmp_path: Path) -> None:
    """The kernel names its file as deleted; under its path lies another build."""
    executable = case.case.executable
    path = reshaped.write(
        reshaped.renamed(lambda n: n + b" (deleted)" if n.endswith(b"x86_64") else n)
    )
    others = executable.parent.parent.glob("*/qemu-system-x86_64")
    new = next((other for other in sorted(others) if other.parent != executable.parent), None)
    if new is None:
        pytest.skip("no other QEMU: run `python -m tests.lab build 10.0`")
    place = tmp_path / executable.relative_to("/")
    place.parent.mkdir(parents=True)
    place.hardlink_to(new)
    with pytest.raises(VringcoreError) as caught:
        vringcore.open_core(path, sysroot=tmp_path, store=LayoutStore())
    assert case.case.manifest["build_id"] in str(caught.value)
    assert "upgraded" in caught.value.hint
    with pytest.raises(ExecutableMismatchError) as mismatch:
        vringcore.open_core(path, executable=new, store=LayoutStore())
    assert mismatch.value.expected == f"build-id {case.case.manifest['build_id']}"
    checked = precheck_core(str(path), Options(sysroot=str(tmp_path)), Tool("vringcore", "test"))
    [module] = [each for each in checked.modules or () if each.path == str(executable)]
    assert (module.state, module.deleted) == ("other-build", True)
    assert case.case.manifest["build_id"] in module.refused[0]
    as_gdb_has_them(case, devices(path, executable))


def test_reshaping_changes_nothing_by_itself(case: CoreCase, reshaped: Reshaped) -> None:
    path = reshaped.write(reshaped.notes)
    executable = case.case.executable
    assert encode(devices(path, executable)) == encode(devices(case.path, executable))
