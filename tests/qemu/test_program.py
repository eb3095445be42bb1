"""Cores of other programs are told from a QEMU's before any debug information is asked for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import vringcore
from tests.cli.command import vringcore as run
from tests.cores import lab_cores
from tests.lab.cases import CoreCase
from tests.synth.core import READ, WRITE, CoreBuilder, elf_image
from vringcore.elfcore.core import open_elf_core
from vringcore.elfcore.executable import read_executable
from vringcore.errors import NotQemuError
from vringcore.layout.store import LayoutStore
from vringcore.memory.files import FileSource
from vringcore.qemu.program import identify

PROGRAM = 0x5500_0000_0000
NOWHERE = "/nowhere"


def core_of(directory: Path, path: bytes, *, named: bool = True) -> Path:
    core = CoreBuilder()
    core.thread(7)
    core.process(7, path.rpartition(b"/")[2][:15], path)
    core.auxv({3: PROGRAM + 64, 9: PROGRAM + 0x1040})
    if named:
        core.files([(PROGRAM, PROGRAM + 0x1000, 0, path)])
    core.segment(PROGRAM, elf_image(build_id=bytes(20)), flags=READ | WRITE)
    core.write(directory / "core")
    return directory / "core"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("verb", ["why", "queues"])
def test_another_program_is_named_first(tmp_path: Path, verb: str, *, named: bool) -> None:
    core = core_of(tmp_path, b"/usr/bin/sleep", named=named)
    said = run(verb, str(core), "--sysroot", NOWHERE)
    assert said.returncode == 3
    assert "this is not a core of a QEMU" in said.stderr
    assert "sleep" in said.stderr
    assert "debug package" not in said.stderr


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (b"/usr/bin/qemu-system-x86_64", True),
        (b"/usr/libexec/qemu-kvm", True),
        (b"/usr/bin/kvm", True),
        (b"/nix/store/x-qemu/bin/.qemu-system-aarch64-wrapped", True),
        (b"/usr/bin/qemu-nbd", False),
        (b"/usr/bin/qemu-aarch64", False),
        (b"/bin/sh", False),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_names(tmp_path: Path, path: bytes, *, answer: bool, named: bool) -> None:
    with open_elf_core(str(core_of(tmp_path, path, named=named))) as core:
        assert identify(core, None).is_qemu is answer


def test_symbols_of_the_file_decide(tmp_path: Path) -> None:
    """A program under the name of an emulator is none."""
    core = core_of(tmp_path, b"/usr/bin/qemu-system-x86_64")
    with pytest.raises(vringcore.VringcoreError) as caught:
        vringcore.open_core(core, sysroot=NOWHERE, store=LayoutStore())
    assert not isinstance(caught.value, NotQemuError)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_stripped_file_without_the_symbols_proves_nothing(tmp_path: Path) -> None:
    """A QEMU built without modules and plugins exports none of them: its name decides then."""
    source, program = tmp_path / "p.c", tmp_path / "p"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-o", program, source], check=True)
    path = core_of(tmp_path, b"/usr/bin/qemu-system-x86_64")
    with open_elf_core(str(path)) as core, FileSource.open(str(program)) as file:
        assert identify(core, read_executable(file)).is_qemu is False
    subprocess.run(["strip", "--strip-all", program], check=True)
    with open_elf_core(str(path)) as core, FileSource.open(str(program)) as file:
        assert identify(core, read_executable(file)).is_qemu is True


@pytest.mark.lab
@pytest.mark.parametrize(
    "case", lab_cores(lambda core: core.case.scenario in ("stuck", "other-qemu-nbd"))
)
def test_real_programs_by_their_symbols(case: CoreCase) -> None:
    with (
        open_elf_core(str(case.path)) as core,
        FileSource.open(str(case.case.executable)) as source,
    ):
        assert identify(core, read_executable(source)).is_qemu is (case.case.scenario == "stuck")
        assert identify(core, None).is_qemu is (case.case.scenario == "stuck")
