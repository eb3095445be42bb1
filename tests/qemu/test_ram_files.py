"""Guest RAM that a core left out, read from the file that backed it, against gdb's own reading."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import vringcore
from tests.cores import lab_cores
from tests.lab.cases import CoreCase
from vringcore.addresses import HostAddress
from vringcore.elfcore.core import open_elf_core
from vringcore.errors import FileError
from vringcore.layout.store import LayoutStore
from vringcore.model.report import Report
from vringcore.model.values import Absent
from vringcore.options import Options
from vringcore.slim.slim import slim_core

SIZE = 256 << 20
SHARED = lab_cores(lambda core: core.filtered)
IN_FILE = lab_cores(lambda core: core.kind == "gcore" and core.case.scenario == "shared-ram")


def write_ram(case: CoreCase, path: Path) -> str:
    """Write the RAM that the kernel's core of the same process holds; return where it was."""
    with open_elf_core(str(case.path.with_name("core.kernel"))) as core, path.open("wb") as out:
        module = next(m for m in core.modules if m.end - m.start == SIZE)
        for piece in core.memory.scan(HostAddress(module.start), SIZE):
            assert piece.data is not None
            if piece.data.strip(b"\0"):
                out.seek(piece.address - module.start)
                out.write(piece.data)
        out.truncate(SIZE)
        return module.path


@pytest.fixture
def ram(case: CoreCase, tmp_path: Path) -> Iterator[Path]:
    """The file of guest RAM as it was when the process ended, its guest long stuck."""
    path = tmp_path / "ram.copy"
    write_ram(case, path)
    yield path
    path.unlink()


def report(case: CoreCase, **options: object) -> Report:
    opened = vringcore.open_core(
        case.path, executable=case.case.executable, store=LayoutStore(), **options
    )
    with opened as core:
        return core.report()


def check_against_gdb(case: CoreCase, found: Report) -> int:
    """Hold the indices in the rings against those that gdb read from the kernel's core."""
    told = case.case.read("gdb.kernel.json")["devices"]
    count = 0
    for device in told:
        shown = next(d for d in found.devices if d.qom_path == device["canonical_path"])
        for queue, truth in zip(shown.queues, device["queues"], strict=True):
            for name in ("avail", "used"):
                index = int.from_bytes(bytes.fromhex(truth["rings"][name])[2:4], "little")
                assert getattr(queue.guest, f"{name}_idx") == index
                count += 1
    return count


@pytest.mark.parametrize("case", SHARED)
def test_a_given_file_answers_what_gdb_reads_from_a_core_with_ram(
    case: CoreCase, ram: Path, tmp_path: Path
) -> None:
    found = report(case, ram_files=[ram])
    assert check_against_gdb(case, found) == 8
    assert found.core.guest_ram == "present"
    said = [limit for limit in found.limits if "read from" in limit.what]
    assert len(said) == 1
    assert str(ram) in said[0].what
    assert "may have changed" in said[0].why

    options = Options(executable=str(case.case.executable), ram_files=(f"ram0={ram}",))
    small = tmp_path / "small.core"
    slim_core(str(case.path), str(small), options=options, store=LayoutStore())
    with vringcore.open_core(small, sysroot=tmp_path / "nothing", store=LayoutStore()) as core:
        kept = core.report()
    assert [d.queues for d in kept.devices] == [d.queues for d in found.devices]
    assert said[0] in kept.limits


@pytest.mark.parametrize("case", SHARED)
def test_without_it_the_rings_are_absent_and_the_next_step_is_told(case: CoreCase) -> None:
    found = report(case, sysroot="/nonexistent")
    assert "ram0" in found.core.guest_ram
    hints = {
        queue.guest.avail_idx.hint
        for queue in found.devices[0].queues
        if isinstance(queue.guest.avail_idx, Absent)
    }
    assert len(hints) == 1
    hint = hints.pop()
    assert "--ram-file" in hint or "coredump_filter" in hint


@pytest.mark.parametrize("case", IN_FILE)
def test_it_is_found_where_the_core_says_or_beside_it(case: CoreCase, tmp_path: Path) -> None:
    ram = tmp_path / "ram"
    named = write_ram(case, ram)
    beside = tmp_path / "core"
    beside.symlink_to(case.path)
    with vringcore.open_core(
        beside, executable=case.case.executable, sysroot=tmp_path / "root", store=LayoutStore()
    ) as core:
        assert check_against_gdb(case, core.report()) == 8
    there = tmp_path / "root" / named.lstrip("/")
    there.parent.mkdir(parents=True)
    shutil.move(ram, there)
    found = report(case, sysroot=tmp_path / "root")
    assert check_against_gdb(case, found) == 8
    assert any(str(there) in limit.what for limit in found.limits)


@pytest.mark.parametrize("case", IN_FILE)
def test_a_file_of_another_size_is_refused_and_told(case: CoreCase, tmp_path: Path) -> None:
    other = tmp_path / "ram"
    with other.open("wb") as file:
        file.truncate(SIZE // 2)
    with pytest.raises(FileError, match=f"ram0 of {SIZE} bytes"):
        report(case, ram_files=[other])
    beside = tmp_path / "core"
    beside.symlink_to(case.path)
    with vringcore.open_core(
        beside, executable=case.case.executable, sysroot=tmp_path, store=LayoutStore()
    ) as core:
        found = core.report()
    assert isinstance(found.devices[0].queues[0].guest.avail_idx, Absent)
    assert any("not the file that backed it" in limit.what for limit in found.limits)


@pytest.mark.parametrize("case", IN_FILE)
def test_any_other_file_is_not_read_on_the_word_of_a_core(case: CoreCase, tmp_path: Path) -> None:
    """A forged core could name a disk image; its bytes would be in the answer."""
    named = Path(write_ram(case, tmp_path / "ram"))
    if named.exists() or not named.parent.name.startswith("vringcore-lab-"):
        pytest.skip(f"{named} is not the lab's to write")
    made = [each for each in (named.parent, *named.parent.parents) if not each.exists()]
    named.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.move(tmp_path / "ram", named)
        found = report(case)
        given = report(case, ram_files=[named])
    finally:
        named.unlink(missing_ok=True)
        for each in made:
            each.rmdir()
    assert isinstance(found.devices[0].queues[0].guest.avail_idx, Absent)
    (said,) = (limit for limit in found.limits if "was not read" in limit.what)
    assert said.hint == f"if it still holds that VM's memory: --ram-file ram0={named}"
    assert check_against_gdb(case, given) == 8


@pytest.mark.parametrize("case", lab_cores(lambda core: core.name == "7.2/stuck/gcore"))
def test_a_core_that_lacks_nothing_takes_no_file(case: CoreCase, tmp_path: Path) -> None:
    with (tmp_path / "ram").open("wb") as file:
        file.truncate(SIZE)
    with pytest.raises(FileError, match="leave --ram-file out"):
        report(case, ram_files=[tmp_path / "ram"])
