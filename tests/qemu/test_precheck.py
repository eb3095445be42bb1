"""What precheck says of a core is what the verbs then find in it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import vringcore
from tests.cores import cores, lab_cores
from tests.lab.cases import CoreCase
from tests.synth.core import READ, WRITE, CoreBuilder, elf_image
from vringcore.layout.store import LayoutStore
from vringcore.model.precheck import PrecheckDocument
from vringcore.model.report import Tool
from vringcore.model.values import Absent
from vringcore.options import Options
from vringcore.qemu.precheck import precheck_core
from vringcore.qemu.ram_options import RamBlock, parse_size, ram_of

TOOL = Tool("vringcore", "test")
BACKENDS = (
    "-m 2G -object memory-backend-memfd,id=a,size=1G"
    " -object memory-backend-file,id=b,size=1024M,share=on,mem-path=/dev/hugepages/vm"
)
OTHERS = ("other-qemu-nbd", "other-storage-daemon")


def check(path: Path | str, options: Options | None = None) -> PrecheckDocument:
    return precheck_core(str(path), options or Options(), TOOL)


def answers(document: PrecheckDocument) -> dict[str, str]:
    return {each.verb: each.answer for each in document.answers}


@pytest.mark.parametrize("case", cores(lambda core: core.case.scenario not in OTHERS))
def test_what_is_promised_is_there(case: CoreCase) -> None:
    document = check(case.path, case.options)
    assert document.program.is_qemu is True
    assert document.core
    assert document.core.written_by == (case.kind if case.whole else "slim") or case.kind == "proc"
    with case.open() as core:
        info = core.info
        devices = core.virtio_devices()
    assert document.core.size == info.size
    assert document.program.build_id == info.build_id
    assert document.threads == info.threads
    said = answers(document)
    assert said["queues"] != "no"
    assert bool(devices) is (said["devices"] != "no") or case.case.scenario.startswith("microvm")
    if case.whole:
        ram = document.guest_ram
        assert isinstance(ram.configured, int)
        lost = "ram0" if case.case.scenario in ("shared-ram", "huge-ram") else "pc.ram"
        absent = info.guest_ram.startswith("absent") or lost in info.guest_ram
        assert (ram.state, ram.bytes) == (("absent", 0) if absent else ("present", ram.configured))
        assert said["ring"] == ("no" if absent else "yes")


@pytest.mark.lab
@pytest.mark.parametrize("case", lab_cores(lambda core: core.case.scenario in OTHERS))
def test_other_programs(case: CoreCase) -> None:
    document = check(case.path, case.options)
    assert document.program.is_qemu is False
    assert set(answers(document).values()) == {"no"}
    assert document.next_capture == ()


@pytest.mark.lab
@pytest.mark.parametrize(
    "case",
    lab_cores(lambda core: core.case.scenario in ("shared-ram", "huge-ram", "no-guest-ram")),
)
def test_what_would_have_kept_guest_ram(case: CoreCase) -> None:
    """Of shared memory the gcore core was taken with the default filter, the kernel's with 0x7f."""
    document = check(case.path, case.options)
    advice = " ".join(f"{each.why} {each.how}" for each in document.next_capture)
    if case.kind == "kernel":
        assert (document.guest_ram.state, advice) == ("present", "")
        return
    assert document.guest_ram.state == "absent"
    expected = {"shared-ram": "0x8", "huge-ram": "0x40", "no-guest-ram": "dump-guest-core=on"}
    assert expected[case.case.scenario] in advice
    assert ("coredump_filter" in advice) is (case.case.scenario != "no-guest-ram")


@pytest.mark.lab
@pytest.mark.parametrize("case", lab_cores(lambda core: core.name == "7.2/stuck/gcore"))
def test_a_real_core_takes_a_moment_and_needs_no_debug_information(case: CoreCase) -> None:
    times = []
    for _ in range(5):
        start = time.process_time()
        document = check(case.path, Options(sysroot="/nowhere"))
        times.append(time.process_time() - start)
    assert min(times) < 0.3
    assert document.program.is_qemu is True
    assert document.debug_information.state in ("missing", "cached", "pack")
    assert "qemu-system-x86-dbgsym" in document.debug_information.package
    assert document.modules
    assert {each.state for each in document.modules} == {"missing"}


@pytest.mark.lab
@pytest.mark.parametrize("case", lab_cores(lambda core: core.name == "7.2/stuck/gcore"))
def test_an_executable_of_another_build_is_refused_with_both_ids(
    case: CoreCase, tmp_path: Path
) -> None:
    """QEMU was upgraded: under the path that the core names lies another build."""
    ran = case.case.executable
    new = next((p for p in ran.parent.parent.glob("10.0/qemu-system-x86_64")), None)
    if new is None:
        pytest.skip("no other QEMU: run `python -m tests.lab build 10.0`")
    place = tmp_path / ran.relative_to("/")
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "new")
    (tmp_path / "new").write_bytes(new.read_bytes())
    document = check(case.path, Options(sysroot=str(tmp_path)))
    [module] = [each for each in document.modules or () if each.path == str(ran)]
    assert module.state == "other-build"
    assert module.build_id == case.case.manifest["build_id"]
    assert module.build_id in module.refused[0]
    with pytest.raises(vringcore.VringcoreError) as caught:
        vringcore.open_core(case.path, sysroot=str(tmp_path), store=LayoutStore())
    assert module.build_id in str(caught.value)
    assert "/proc/PID/exe" in caught.value.hint


@pytest.mark.lab
@pytest.mark.parametrize("case", lab_cores(lambda core: core.name == "7.2/no-guest-ram/gcore"))
def test_the_executable_is_found_beside_the_core(case: CoreCase, tmp_path: Path) -> None:
    """As of a container, whose paths are not this machine's."""
    (tmp_path / "core").symlink_to(case.path)
    (tmp_path / case.case.executable.name).symlink_to(case.case.executable)
    with vringcore.open_core(tmp_path / "core", sysroot="/nowhere", store=LayoutStore()) as core:
        assert core.virtio_devices()
    document = check(tmp_path / "core", Options(sysroot="/nowhere"))
    assert document.debug_information.state == "executable"


def test_a_cut_core_says_what_is_lost(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.notes_last = True
    builder.thread(1)
    builder.segment(0x10000, elf_image(build_id=bytes(20)), flags=READ)
    builder.segment(0x100000, bytes(1 << 16), flags=READ | WRITE)
    (tmp_path / "core").write_bytes(builder.build()[:-100])
    document = check(tmp_path / "core")
    assert document.core
    assert document.core.complete is False
    assert "gdb writes registers" in document.core.cut
    assert document.program.is_qemu is None
    assert "no" in answers(document).values()
    assert any("ulimit -c" in each.how for each in document.next_capture)


@pytest.mark.parametrize(
    ("words", "blocks"),
    [
        ("", [RamBlock(128 << 20)]),
        ("-m 256", [RamBlock(256 << 20)]),
        ("-m size=4G,slots=2,maxmem=8G", [RamBlock(4 << 30)]),
        ("-m 1.5G", [RamBlock(3 << 29)]),
        ("-m 1G -machine q35,dump-guest-core=off", [RamBlock(1 << 30, dumped=False)]),
        (
            BACKENDS,
            [
                RamBlock(1 << 30, "memory-backend-memfd", shared=True),
                RamBlock(
                    1 << 30, "memory-backend-file", shared=True, huge=True, file="/dev/hugepages/vm"
                ),
            ],
        ),
        (
            '-m 1024 -object {"qom-type":"memory-backend-ram","size":1073741824,"dump":false}',
            [RamBlock(1 << 30, "memory-backend-ram", dumped=False)],
        ),
        ("-object {not-json -m 5", [RamBlock(5 << 20)]),
    ],
)
def test_ram_by_the_command_line(words: str, blocks: list[RamBlock]) -> None:
    assert ram_of(["qemu", *words.split()]) == blocks


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1 << 20), ("4096K", 1 << 22), ("2GiB", 2 << 30), ("", 0), ("x", 0), ("9" * 99, 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_absent_is_no_zero(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.process(1, b"qemu-system-x86", b"")
    builder.segment(0x1000, b"x")
    builder.write(tmp_path / "core")
    document = check(tmp_path / "core")
    assert isinstance(document.guest_ram.configured, Absent)
    assert document.guest_ram.state == "unknown"
    assert (document.threads, document.registers) == (0, 0)
