"""Where a module's files are looked for, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.debuginfo.conftest import Build
from tests.debuginfo.reading import layouts_of
from tests.synth.programs import BUILD_ID, SAME_ANSWERS, SPLIT, Variant, compile_program
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.find import find_debug_file, find_executable, find_files, in_sysroot
from vringcore.errors import (
    DebugInfoMissingError,
    ElfFormatError,
    ExecutableMismatchError,
    FileError,
    VringcoreError,
)

WHOLE = next(v for v in SAME_ANSWERS if v.name == "gcc-dwarf5")
APART = Variant("gcc-apart", steps=SPLIT)


@pytest.fixture
def apart(build: Build, tmp_path: Path) -> tuple[Path, Path]:
    """Return a stripped program and its debug file, in directories of their own."""
    program = build(APART)
    (tmp_path / "bin").mkdir()
    (tmp_path / "elsewhere").mkdir()
    executable = Path(shutil.copy(program, tmp_path / "bin" / "program"))
    debug = Path(shutil.copy(f"{program}.debug", tmp_path / "elsewhere" / "some.debug"))
    return executable, debug


def test_a_program_with_its_own_debug_information_needs_no_other_file(build: Build) -> None:
    program = str(build(WHOLE))
    files = find_files(BUILD_ID, program)
    assert files.executable == program
    assert files.debug_file() == program


def test_debug_information_is_found_by_build_id(apart: tuple[Path, Path], tmp_path: Path) -> None:
    executable, debug = apart
    place = tmp_path / "debug" / ".build-id" / BUILD_ID[:2] / f"{BUILD_ID[2:]}.debug"
    place.parent.mkdir(parents=True)
    debug.rename(place)
    directory = str(tmp_path / "debug")
    assert find_debug_file(BUILD_ID, str(executable), debug_dirs=[directory]).path == str(place)
    assert layouts_of(executable, debug_dirs=[directory]).definition("struct VirtQueue")


@pytest.mark.parametrize("where", [".", ".debug"])
def test_debug_information_is_found_by_its_link(apart: tuple[Path, Path], where: str) -> None:
    executable, debug = apart
    place = executable.parent / where / "program.debug"
    place.parent.mkdir(exist_ok=True)
    debug.rename(place)
    found = find_debug_file(BUILD_ID, str(executable)).path
    assert os.path.samefile(found, place)


def test_debug_information_is_found_below_a_debug_directory(
    apart: tuple[Path, Path], tmp_path: Path
) -> None:
    executable, debug = apart
    place = Path(f"{tmp_path}/root{executable.parent}/program.debug")
    place.parent.mkdir(parents=True)
    debug.rename(place)
    found = find_debug_file(BUILD_ID, str(executable), debug_dirs=[f"{tmp_path}/root"])
    assert found.path == str(place)


def test_the_users_debug_file_goes_first(apart: tuple[Path, Path]) -> None:
    executable, debug = apart
    assert find_debug_file(BUILD_ID, str(executable), debug_files=[str(debug)]).path == str(debug)


def test_the_places_tried_are_listed(apart: tuple[Path, Path], tmp_path: Path) -> None:
    executable, debug = apart
    debug.unlink()
    files = find_files(BUILD_ID, str(executable), debug_dirs=[str(tmp_path / "debug")])
    with pytest.raises(DebugInfoMissingError) as caught:
        files.debug_file()
    message = str(caught.value)
    assert f"{executable}: no debug information in it" in message
    assert f"{tmp_path}/debug/.build-id/{BUILD_ID[:2]}/{BUILD_ID[2:]}.debug: not there" in message
    assert "program.debug: not there" in message
    assert BUILD_ID in message


def test_another_builds_debug_file_is_refused(apart: tuple[Path, Path]) -> None:
    executable, debug = apart
    other = "f" * 40
    found = find_debug_file(other, "", debug_files=[str(debug), str(executable)])
    assert found.path == ""
    assert any(f"build-id {BUILD_ID}, not {other}" in line for line in found.log)


def test_a_link_is_held_to_its_checksum(tmp_path: Path) -> None:
    for directory, text in (("a", "int first;"), ("b", "long second, third;")):
        (tmp_path / directory).mkdir()
        source = tmp_path / directory / "program.c"
        source.write_text(f"{text} int main(void) {{ return 0; }}")
        program = tmp_path / directory / "program"
        command = ["gcc", "-g", "-Wl,--build-id=none", str(source), "-o", str(program)]
        subprocess.run(command, check=True)
        for step in SPLIT:
            words = [w.format(exe=program, debug=f"{program}.debug") for w in step]
            subprocess.run(words, check=True, cwd=tmp_path / directory)
    program = tmp_path / "a" / "program"
    assert find_debug_file("", str(program)).path == f"{program}.debug"
    shutil.copy(tmp_path / "b" / "program.debug", f"{program}.debug")
    found = find_debug_file("", str(program))
    assert found.path == ""
    assert any("checksum" in line for line in found.log)


def test_a_given_executable_must_be_the_one_that_ran(build: Build) -> None:
    program = str(build(WHOLE))
    with pytest.raises(ExecutableMismatchError) as caught:
        find_executable("ab" * 20, "/usr/bin/qemu", given=program)
    assert "ab" * 20 in str(caught.value)
    assert BUILD_ID in str(caught.value)
    assert find_executable(BUILD_ID, "/nowhere", given=program).path == program
    assert find_executable("", "/nowhere", given=program).path == program


def test_a_given_executable_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        find_executable(BUILD_ID, "", given=str(tmp_path / "missing"))
    (tmp_path / "text").write_text("no program\n")
    with pytest.raises(ElfFormatError):
        find_executable(BUILD_ID, "", given=str(tmp_path / "text"))


def test_an_executable_is_found_by_the_path_in_the_core_or_by_build_id(
    build: Build, tmp_path: Path
) -> None:
    program = build(WHOLE)
    assert find_executable(BUILD_ID, str(program)).path == str(program)
    found = find_executable("cd" * 20, str(program))
    assert found.path == ""
    assert any(BUILD_ID in line for line in found.log)
    place = tmp_path / ".build-id" / BUILD_ID[:2] / BUILD_ID[2:]
    place.parent.mkdir(parents=True)
    place.symlink_to(program)
    assert find_executable(BUILD_ID, "/gone", debug_dirs=[str(tmp_path)]).path == str(place)


@pytest.mark.parametrize(
    "path", ["relative/program", "", "//host/share", "\\\\host\\share", "a\0b"]
)
def test_a_path_that_names_no_file_of_this_machine_is_not_taken(path: str) -> None:
    assert find_executable(BUILD_ID, path).path == ""


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found = find_executable(BUILD_ID, str(tmp_path / "pipe"))
    assert found.path == ""
    assert any("FIFO" in line for line in found.log)


def test_the_sysroot_is_not_left(build: Build, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(build(WHOLE), root / "bin" / "program")
    (root / "bin" / "inside").symlink_to("program")
    (root / "bin" / "outside").symlink_to(build(WHOLE))
    for path in ("/bin/program", "/bin/inside"):
        assert find_executable(BUILD_ID, path, sysroot=str(root)).path
    for path in ("/bin/outside", "/../../../../etc/passwd", str(build(WHOLE))):
        assert not find_executable(BUILD_ID, path, sysroot=str(root)).path
    assert in_sysroot("/../x", str(root)) == ""
    assert in_sysroot("/x", None) == "/x"


def test_dwz_common_file_is_found_or_named(build: Build, tmp_path: Path) -> None:
    if shutil.which("dwz") is None:
        pytest.skip("needs dwz")
    programs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        programs.append(compile_program(WHOLE, tmp_path / name))
    common = tmp_path / "common.debug"
    subprocess.run(["dwz", "-m", str(common), *map(str, programs)], check=True)
    whole = layouts_of(build(WHOLE))
    keys = ["struct VirtIODevice", "struct VirtQueue", "typedef CoroutineUContext", "enum Signed"]
    for program in programs:
        with ElfFile.open(str(program)) as elf:
            assert elf.alternate_link() is not None
        for units in ((), ("queue.c",), ("main.c",)):
            layouts = layouts_of(program)
            for key in keys:
                if key == "struct VirtQueue" and units == ("main.c",):
                    continue
                assert layouts.definition(key, units) == whole.definition(key), key
            current = layouts.variable("current", "queue.c")
            assert current.type == whole.variable("current", "queue.c").type
    common.unlink()
    layouts = layouts_of(programs[0])
    with pytest.raises(VringcoreError, match="common file"):
        layouts.definition("struct VirtIODevice", ("queue.c",))
    assert not layouts.bundle.searched_absent
