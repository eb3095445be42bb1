"""When a core was taken: by its name or by ABRT, where the core itself does not contradict them."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

import vringcore
from tests.cores import lab_cores
from tests.lab.cases import NOWHERE, CoreCase, iter_dumps, unpacked
from vringcore.elfcore.core import open_elf_core
from vringcore.layout.store import LayoutStore
from vringcore.model.report import CoreInfo
from vringcore.model.values import Absent
from vringcore.options import Options
from vringcore.qemu.files import ProgramFiles
from vringcore.slim.slim import slim_core

DUMP = next(core for core in iter_dumps() if core.name == "dumps/7.2/stuck-migration/gcore")
PID = DUMP.case.manifest["pid"]
BOOT = "4dcbbf7ad8ee4e1b9ba64bd65b5c9c6d"


def info(path: Path) -> CoreInfo:
    with vringcore.open_core(path, sysroot=NOWHERE, store=LayoutStore()) as core:
        return core.info


@pytest.mark.parametrize(
    ("name", "by"),
    [
        (f"core.qemu-system-x86.0.{BOOT}.{PID}.1700000000000000.zst", "systemd-coredump"),
        (f"core.qemu-system-x86.{PID}.1700000000.zst", "core_pattern"),
        # In a container the process has another number than on the host that names the file.
        (f"core.qemu-system-x86.0.{BOOT}.4000000.1700000000000000.zst", "container"),
    ],
)
def test_a_name_that_the_core_confirms(tmp_path: Path, name: str, by: str) -> None:
    shutil.copy(DUMP.path, tmp_path / name)
    found = info(tmp_path / name)
    assert found.captured_at == "2023-11-14T22:13:20.000Z"
    assert by in found.captured_at_source


def test_a_name_that_the_core_contradicts(tmp_path: Path) -> None:
    path = tmp_path / f"core.sleep.0.{BOOT}.4000000.1700000000000000.zst"
    shutil.copy(DUMP.path, path)
    found = info(path)
    assert isinstance(found.captured_at, Absent)
    assert found.captured_at.reason == "contradicted"
    assert str(PID) in found.captured_at.hint
    assert found.captured_at_source == ""


@pytest.mark.parametrize("word", ["qemu-system-x86", "sleep"])
def test_a_small_core_answers_as_the_one_that_it_was_made_of(tmp_path: Path, word: str) -> None:
    path = tmp_path / f"core.{word}.0.{BOOT}.4000000.1700000000000000.zst"
    shutil.copy(DUMP.path, path)
    small = tmp_path / "small.core"
    slim_core(str(path), str(small), options=Options(sysroot=NOWHERE), store=LayoutStore())
    found, kept = info(path), info(small)
    assert kept.captured_at == found.captured_at
    assert kept.captured_at_source == found.captured_at_source
    assert isinstance(found.captured_at, Absent) == (word == "sleep")


def test_a_directory_of_abrt(tmp_path: Path) -> None:
    (tmp_path / "coredump").write_bytes(unpacked(DUMP.path))
    (tmp_path / "time").write_text("1700000000\n")
    (tmp_path / "pid").write_text(str(PID))
    (tmp_path / "environ").write_text("never read")
    found = info(tmp_path)
    assert found.captured_at == "2023-11-14T22:13:20.000Z"
    assert "ABRT" in found.captured_at_source
    assert found.path == f"{tmp_path}/coredump"


def test_the_time_of_the_file_is_no_time_of_capture(tmp_path: Path) -> None:
    path = tmp_path / "core.zst"
    shutil.copy(DUMP.path, path)
    found = info(path)
    assert isinstance(found.captured_at, Absent)
    assert found.captured_at.reason == "not-recorded"


@pytest.mark.parametrize("case", lab_cores(lambda core: core.name == "7.2/stuck/gcore"))
def test_abrts_executable_is_looked_at_where_the_cores_path_leads_nowhere(
    case: CoreCase, tmp_path: Path
) -> None:
    (tmp_path / "coredump").symlink_to(case.path)
    (tmp_path / "executable").write_text("/opt/moved/qemu\n")
    there = tmp_path / "root/opt/moved/qemu"
    there.parent.mkdir(parents=True)
    shutil.copy(case.case.executable, there)
    with open_elf_core(str(tmp_path / "coredump")) as core:
        files = ProgramFiles(core, Options(sysroot=str(tmp_path / "root")))
        with closing(files):
            assert files.executable is not None
            assert files.executable.source.path == str(there)
            assert files.build_id == case.case.manifest["build_id"]
    there.write_bytes(Path("/bin/true").read_bytes())  # another build is not taken
    with open_elf_core(str(tmp_path / "coredump")) as core:
        files = ProgramFiles(core, Options(sysroot=str(tmp_path / "root")))
        with closing(files):
            assert files.executable is None
