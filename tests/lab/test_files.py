"""The files that go with a real core: the right ones, the wrong ones, and none."""

from __future__ import annotations

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.cli.command import vringcore as run_vringcore
from tests.lab.cases import Case, CoreCase, iter_cases
from tests.lab.partial import absences, plain, wrong
from tests.lab.reading import Reader, find_core, pages
from tests.lab.scratch import ScratchCore
from vringcore.errors import (
    DebugInfoMissingError,
    ExecutableMismatchError,
    LayoutError,
    NotQemuError,
)
from vringcore.layout.store import LayoutStore
from vringcore.model.values import Absent
from vringcore.qemu.block import format_of_symbol
from vringcore.qemu.survey import DEVICE_PARTS

pytestmark = pytest.mark.lab

CASES = {case.name: case for case in iter_cases()}


def the(name: str) -> CoreCase:
    """Return a core of the lab, or skip the test."""
    core = find_core(name)
    if core is None:
        version, scenario, _ = name.split("/")
        pytest.skip(f"no such core: run `python -m tests.lab make {version} {scenario}`")
    return core


@pytest.fixture(scope="module")
def stuck() -> CoreCase:
    return the("7.2/stuck/gcore")


@pytest.fixture(scope="module")
def whole(stuck: CoreCase) -> Any:
    return Reader(stuck.case.executable).report(stuck.path)


@pytest.fixture(scope="module")
def files(stuck: CoreCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the program as a distribution ships it: stripped, debug info apart."""
    directory = tmp_path_factory.mktemp("files")
    program, debug = directory / "qemu", directory / "qemu.debug"
    run("objcopy", "--only-keep-debug", stuck.case.executable, debug)
    run("strip", "--strip-all", "-o", program, stuck.case.executable)
    return directory


@pytest.fixture(scope="module")
def bundle(files: Path) -> Path:
    made = files / "layout.json"
    built = run_vringcore("layout", "build", str(files / "qemu.debug"), "-o", str(made))
    assert built.returncode == 0, built.stderr
    return made


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has nothing: no cache, no executable where the core says."""
    directory = tmp_path / "nowhere"
    directory.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(directory))
    return directory


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def report(path: object, **options: Any) -> Any:
    """Return a report of the devices, made with nothing in any cache.

    The frames of threads need libraries, too, which these tests hide.
    """
    with vringcore.open_core(str(path), store=LayoutStore(), **options) as core:
        return plain(core.report(DEVICE_PARTS))


def same(ours: Any, theirs: Any) -> bool:
    """Tell whether two reports say the same of QEMU."""
    return all(ours[key] == theirs[key] for key in ("qemu", "devices", "limits"))


# The executable


def test_another_build_is_refused_with_both_build_ids(stuck: CoreCase) -> None:
    other = the("10.0/stuck/gcore").case
    with pytest.raises(ExecutableMismatchError) as caught:
        report(stuck.path, executable=str(other.executable))
    assert stuck.case.manifest["build_id"] in str(caught.value)
    assert other.manifest["build_id"] in str(caught.value)
    said = run_vringcore("queues", str(stuck.path), "-e", str(other.executable))
    assert (said.returncode, said.stdout) == (3, "")
    assert len(said.stderr.splitlines()) == 1
    assert {stuck.case.manifest["build_id"], other.manifest["build_id"]} <= set(
        re.findall(r"[0-9a-f]{40}", said.stderr)
    )


def test_a_relative_path_to_the_executable(
    stuck: CoreCase, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stuck.case.executable.parent)
    assert same(report(stuck.path, executable=stuck.case.executable.name), whole)


def test_an_executable_that_moved_is_given_by_hand(
    stuck: CoreCase, whole: Any, nowhere: Path
) -> None:
    given = report(stuck.path, executable=str(stuck.case.executable), sysroot=str(nowhere))
    assert same(given, whole)


def test_the_executable_is_found_where_the_core_says(stuck: CoreCase, whole: Any) -> None:
    assert same(report(stuck.path), whole)


def test_the_executable_is_found_below_a_sysroot(
    stuck: CoreCase, whole: Any, nowhere: Path
) -> None:
    path = nowhere / str(stuck.case.executable.resolve()).lstrip("/")
    path.parent.mkdir(parents=True)
    run("cp", stuck.case.executable, path)
    assert same(report(stuck.path, sysroot=str(nowhere)), whole)


# Debug information


def test_without_debug_information_the_message_lists_the_places(
    stuck: CoreCase, files: Path, nowhere: Path
) -> None:
    with pytest.raises(DebugInfoMissingError) as caught:
        report(
            stuck.path,
            executable=str(files / "qemu"),
            debug_dirs=[str(nowhere / "first"), str(nowhere / "second")],
        )
    message, build_id = str(caught.value), stuck.case.manifest["build_id"]
    assert build_id in message
    assert f"{files / 'qemu'}: no debug information in it" in message
    for directory in (nowhere / "first", nowhere / "second", "/usr/lib/debug"):
        assert f"{directory}/.build-id/{build_id[:2]}/{build_id[2:]}.debug: not there" in message
    assert "--debug-file" in message


def test_without_any_file_the_message_lists_the_places(stuck: CoreCase, nowhere: Path) -> None:
    said = run_vringcore(
        *("queues", str(stuck.path), "--sysroot", str(nowhere), "--json"),
        XDG_CACHE_HOME=str(nowhere),
        DEBUGINFOD_CACHE_PATH=str(nowhere),
    )
    assert said.returncode == DebugInfoMissingError.exit_code
    error = json.loads(said.stdout)["error"]
    assert error["code"] == DebugInfoMissingError.code
    assert f"{nowhere}{stuck.case.executable.resolve()}: not there" in error["seen"]
    assert stuck.case.manifest["build_id"] in error["message"]


def test_a_separate_debug_file(stuck: CoreCase, whole: Any, files: Path, nowhere: Path) -> None:
    given = report(
        stuck.path, executable=str(files / "qemu"), debug_files=[str(files / "qemu.debug")]
    )
    assert same(given, whole)


def test_a_debug_file_of_another_build_is_not_taken(stuck: CoreCase, files: Path) -> None:
    other = the("10.0/stuck/gcore").case
    with pytest.raises(DebugInfoMissingError) as caught:
        report(stuck.path, executable=str(files / "qemu"), debug_files=[str(other.executable)])
    assert f"build-id {other.manifest['build_id']}, not" in str(caught.value)


def test_a_tree_of_debug_files(stuck: CoreCase, whole: Any, files: Path, nowhere: Path) -> None:
    build_id = stuck.case.manifest["build_id"]
    path = nowhere / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    path.parent.mkdir(parents=True)
    path.symlink_to(files / "qemu.debug")
    program = str(files / "qemu")
    assert same(report(stuck.path, executable=program, debug_dirs=[str(nowhere)]), whole)


def test_a_debug_link_beside_the_executable(
    stuck: CoreCase, whole: Any, files: Path, nowhere: Path
) -> None:
    linked = nowhere / "qemu"
    run("objcopy", f"--add-gnu-debuglink={files / 'qemu.debug'}", files / "qemu", linked)
    with pytest.raises(DebugInfoMissingError):
        report(stuck.path, executable=str(linked))
    (nowhere / "qemu.debug").symlink_to(files / "qemu.debug")
    assert same(report(stuck.path, executable=str(linked)), whole)


# Bundles


def test_a_bundle_stands_for_debug_information(
    stuck: CoreCase, whole: Any, files: Path, bundle: Path, nowhere: Path
) -> None:
    given = report(stuck.path, executable=str(files / "qemu"), layout=str(bundle))
    assert same(given, whole)


def test_a_bundle_and_no_file_at_all(
    stuck: CoreCase, whole: Any, bundle: Path, nowhere: Path
) -> None:
    """Only what lies in the executable alone is absent then: literals."""
    given = report(stuck.path, layout=str(bundle), sysroot=str(nowhere))
    assert wrong(given, whole) == []
    lost = absences(given).keys() - absences(whole)
    assert {absences(given)[path]["absent"] for path in lost} <= {"file-needed"}
    assert len(lost) < 20
    assert len(given["devices"][0]["queues"]) == 4


def test_a_bundle_of_another_build_is_refused(bundle: Path) -> None:
    other = the("10.0/stuck/gcore")
    with pytest.raises(LayoutError, match="another build") as caught:
        report(other.path, executable=str(other.case.executable), layout=str(bundle))
    assert other.case.manifest["build_id"] in str(caught.value)


# Packed cores


@pytest.mark.parametrize(
    ("program", "level"), [("zstd", "-1"), ("lz4", "-1"), ("gzip", "-1")], ids=["zst", "lz4", "gz"]
)
def test_a_packed_core_says_what_the_plain_one_says(
    program: str, level: str, tmp_path: Path
) -> None:
    core = the("10.0/stuck/kernel")
    packed = tmp_path / "core.packed"
    with packed.open("wb") as out:
        subprocess.run([program, level, "-c", core.path], stdout=out, check=True)
    seen: list[tuple[int, int]] = []
    executable = str(core.case.executable)
    given = report(
        packed,
        executable=executable,
        tmpdir=str(tmp_path),
        progress=lambda done, size: seen.append((done, size)),
    )
    assert same(given, report(core.path, executable=executable))
    assert given["core"]["size"] == core.path.stat().st_size
    assert given["core"]["path"] == str(packed)
    assert seen
    assert os.listdir(tmp_path) == ["core.packed"]


@pytest.fixture(scope="module")
def small(stuck: CoreCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core of a megabyte: what a report of the real one reads."""
    directory = tmp_path_factory.mktemp("small")
    reader = Reader(stuck.case.executable)
    scratch = ScratchCore(stuck.path, directory)
    scratch.write_reduced(directory / "small", pages(reader.touched(stuck.path)))
    scratch.path.unlink()
    return directory / "small"


def test_a_core_of_what_is_read_says_the_same(small: Path, stuck: CoreCase, whole: Any) -> None:
    given = report(small, executable=str(stuck.case.executable))
    assert same(given, whole)
    assert small.stat().st_size < 4 << 20


@pytest.mark.parametrize("program", ["xz", "bzip2", "gzip", "zstd", "lz4"])
def test_every_packer(program: str, small: Path, stuck: CoreCase, whole: Any) -> None:
    packed = small.with_name(f"small.{program}")
    with packed.open("wb") as out:
        subprocess.run([program, "-c", small], stdout=out, check=True)
    assert same(report(packed, executable=str(stuck.case.executable)), whole)


# Other programs, other writers, less memory


@pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if case.scenario.startswith("other-")]
    or [pytest.param(None, marks=pytest.mark.skip("no cores of other programs"))],
    ids=lambda case: case.name if case else "none",
)
def test_other_programs_have_no_virtio_devices(case: Case) -> None:
    core = case.directory / "core"
    with pytest.raises(NotQemuError, match="no virtio devices in this program"):
        report(core, executable=str(case.executable))
    said = run_vringcore("devices", str(core), "-e", str(case.executable))
    assert (said.returncode, said.stdout) == (NotQemuError.exit_code, "")
    assert "no virtio devices in this program" in said.stderr
    assert case.executable.name in said.stderr


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_without_guest_memory_qemus_side_is_whole(version: str) -> None:
    core = the(f"{version}/no-guest-ram/gcore")
    reader = Reader(core.case.executable)
    given = reader.report(core.path)
    assert given["core"]["guest_ram"] == "absent (dump-guest-core=off)"
    ram = next(b for b in core.gdb["ram_blocks"] if b["idstr"] == "pc.ram")
    for device, truth in zip(given["devices"], core.gdb["devices"], strict=True):
        for queue, seen in zip(device["queues"], truth["queues"], strict=True):
            assert queue["in_use"] == seen["fields"]["inuse"] > 0
            assert queue["last_avail_idx"] == seen["fields"]["last_avail_idx"]
            assert len(queue["in_flight"]) == queue["in_use"]
            lost = queue["guest"]["avail_idx"]
            assert lost["absent"] == "not-dumped"
            assert ram["host"] <= int(lost["address"], 16) < ram["host"] + ram["max_length"]
            assert "dump-guest-core=on" in lost["hint"]
            assert queue["counts"]["popped"] == queue["in_use"]
            assert queue["counts"]["unseen"]["absent"] == "not-dumped"
    for ring in reader.rings(core.path).values():
        assert ring["split"]["descriptors"]["absent"] == "not-dumped"


@pytest.mark.parametrize("version", ["7.2", "10.0"])
@pytest.mark.parametrize("scenario", ["stuck", "stuck-migration"])
def test_the_kernels_core_says_what_gdbs_says(version: str, scenario: str) -> None:
    """Of a disk that is stuck: seconds lie between the two, and nothing moves."""
    gcore, kernel = the(f"{version}/{scenario}/gcore"), the(f"{version}/{scenario}/kernel")
    reader = Reader(gcore.case.executable)
    first, second = reader.report(gcore.path), reader.report(kernel.path)
    assert (first["core"]["kind"], second["core"]["kind"]) == ("gcore", "kernel")
    assert first["qemu"] == second["qemu"]
    for mine, its, truth in zip(
        second["devices"], first["devices"], kernel.gdb["devices"], strict=True
    ):
        assert wrong(mine, its) == []
        assert [q["in_use"] for q in mine["queues"]] == [
            q["fields"]["inuse"] for q in truth["queues"]
        ]
        heads = [(q["index"], r["head"]) for q in mine["queues"] for r in q["in_flight"]]
        assert sorted(heads) == sorted((r["queue"], r["index"]) for r in kernel.gdb["requests"])


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_block_drivers_by_their_variables(version: str) -> None:
    """Where the literal with its name is out of reach, the variable's name must not mislead."""
    executable = the(f"{version}/stuck/gcore").case.executable
    script = r"""
import gdb, re
listed = gdb.execute("info variables -q ^bdrv_", to_string=True)
for name in re.findall(r"BlockDriver (bdrv_\w+);", listed):
    print(name, gdb.parse_and_eval("(char *)" + name + ".format_name").string())
"""
    said = subprocess.run(
        ["gdb", "-batch", "-nx", "-ex", f"python exec({script!r})", executable],
        capture_output=True,
        text=True,
        check=True,
    )
    drivers = dict(line.split() for line in said.stdout.splitlines())
    assert len(drivers) > 15
    told = {name: format_of_symbol(name) for name in drivers}
    assert {name: drivers[name] for name, found in told.items() if found} == {
        name: found for name, found in told.items() if found
    }
    assert told["bdrv_nbd_unix"] == "nbd"


# Paths, threads, lifetime


def test_a_path_with_blanks(stuck: CoreCase, whole: Any, tmp_path: Path) -> None:
    path = tmp_path / "my core, the 2nd (of VM 'a b')"
    path.symlink_to(stuck.path)
    assert same(report(path, executable=str(stuck.case.executable)), whole)
    said = run_vringcore("queues", str(path), "-e", str(stuck.case.executable), "--json")
    assert said.returncode == 0
    assert json.loads(said.stdout)["core"]["path"] == str(path)


@pytest.mark.parametrize("shared", [True, False])
def test_one_core_opened_in_many_threads(stuck: CoreCase, whole: Any, shared: bool) -> None:
    store = LayoutStore()

    def read(_: int) -> Any:
        with vringcore.open_core(
            str(stuck.path),
            executable=str(stuck.case.executable),
            store=store if shared else LayoutStore(),
        ) as core:
            return plain(core.report())

    with ThreadPoolExecutor(8) as pool:
        for given in pool.map(read, range(16)):
            assert same(given, whole)


def test_one_core_asked_by_many_threads(stuck: CoreCase, whole: Any) -> None:
    core = Reader(stuck.case.executable).open(stuck.path)
    with core, ThreadPoolExecutor(8) as pool:
        for given in pool.map(lambda _: plain(core.report()), range(16)):
            assert same(given, whole)


def test_what_was_read_outlives_the_core(stuck: CoreCase, whole: Any) -> None:
    with Reader(stuck.case.executable).open(stuck.path) as core:
        devices, ring, made = core.virtio_devices(), core.ring("disk0", 0), core.report()
    assert same(plain(made), whole)
    assert isinstance(devices[0].queues, tuple)
    assert devices[0].queues[0].in_use == 2
    assert not isinstance(ring.split, Absent)
    assert len(plain(ring)["split"]["descriptors"]) == 256
    with pytest.raises(vringcore.VringcoreError):
        Reader(stuck.case.executable).open(stuck.path.with_name("no such core"))
