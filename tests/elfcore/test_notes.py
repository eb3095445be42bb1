from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.synth.core import REGISTERS, CoreBuilder
from vringcore.elfcore.core import ElfCore
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from pathlib import Path


def opened(tmp_path: Path, core: CoreBuilder) -> ElfCore:
    path = tmp_path / "core"
    path.write_bytes(core.build())
    return ElfCore(FileSource.open(str(path), what="core"))


MACHINES = [
    (64, False, 62, "x86-64"),
    (64, False, 183, "aarch64"),
    (64, True, 183, "aarch64"),
    (32, False, 3, "i386"),
    (32, False, 40, "arm"),
    (32, True, 40, "arm"),
]


@pytest.mark.parametrize(("elf_class", "big_endian", "machine", "name"), MACHINES)
def test_threads_have_their_registers(
    tmp_path: Path, elf_class: int, big_endian: bool, machine: int, name: str
) -> None:
    builder = CoreBuilder(elf_class, big_endian, machine)
    values = {reg: 0x1000 + 3 * i for i, reg in enumerate(REGISTERS[machine])}
    builder.thread(77, signal=6, **values)
    builder.thread(78)
    core = opened(tmp_path, builder)
    first, second = core.threads
    assert core.machine == name
    assert core.problems == []
    assert (first.lwp, first.signal, first.registers) == (77, 6, values)
    assert (second.lwp, second.signal, set(second.registers.values())) == (78, 0, {0})
    word = ">" if big_endian else "<"
    word += "Q" if elf_class == 64 else "I"
    assert [v for (v,) in struct.iter_unpack(word, first.raw_registers)] == list(values.values())
    assert first.fs_base == (values["fs_base"] if machine == 62 else None)


def test_an_architecture_without_names_keeps_its_registers_raw(tmp_path: Path) -> None:
    builder = CoreBuilder(machine=183)
    builder.thread(5, x0=1, pc=0x400)
    builder.machine = 43
    core = opened(tmp_path, builder)
    assert core.machine == "ELF machine 43"
    assert core.threads[0].registers == {}
    assert struct.unpack_from("<Q", core.threads[0].raw_registers, 8 * 32) == (0x400,)


def test_the_thread_pointer_of_arm64_comes_from_its_own_note(tmp_path: Path) -> None:
    builder = CoreBuilder(machine=183)
    builder.thread(5)
    builder.note(b"LINUX", 0x401, struct.pack("<QQ", 0x7F0011223344, 0))
    builder.thread(6)
    core = opened(tmp_path, builder)
    assert [thread.fs_base for thread in core.threads] == [0x7F0011223344, None]


@pytest.mark.parametrize("elf_class", [32, 64])
def test_the_process(tmp_path: Path, elf_class: int) -> None:
    builder = CoreBuilder(elf_class)
    builder.process(4321, b"qemu-system-x86", b"qemu-system-x86_64 -m 1G", ppid=99)
    info = opened(tmp_path, builder).prpsinfo
    assert info is not None
    assert (info.pid, info.ppid, info.uid, info.gid) == (4321, 99, 1000, 1001)
    assert (info.fname, info.psargs) == ("qemu-system-x86", "qemu-system-x86_64 -m 1G")


def test_the_auxiliary_vector_ends_at_at_null(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.note(b"CORE", 6, struct.pack("<8Q", 9, 0x401000, 6, 4096, 0, 0, 3, 0x400040))
    assert opened(tmp_path, builder).auxv == {9: 0x401000, 6: 4096}


@pytest.mark.parametrize("page_size", [1, 4096, 65536])
@pytest.mark.parametrize("elf_class", [32, 64])
def test_file_offsets_count_in_the_notes_own_page_size(
    tmp_path: Path, page_size: int, elf_class: int
) -> None:
    builder = CoreBuilder(elf_class)
    builder.files(
        [
            (0x10000, 0x20000, 0, b"/usr/lib/liba.so"),
            (0x30000, 0x40000, 0, b"/lib/libb.so (deleted)"),
            (0x40000, 0x50000, 0x20000, b"/lib/libb.so (deleted)"),
            (0x20000, 0x30000, 0x10000, b"/usr/lib/liba.so"),
        ],
        page_size=page_size,
    )
    core = opened(tmp_path, builder)
    assert [(m.path, m.deleted, m.start, m.end) for m in core.modules] == [
        ("/usr/lib/liba.so", False, 0x10000, 0x30000),
        ("/lib/libb.so", True, 0x30000, 0x50000),
    ]
    assert [m.file_offset for m in core.modules[1].mappings] == [0, 0x20000]
    assert core.module_at(0x2FFFF) is core.modules[0]
    assert core.module_at(0x50000) is None
    assert core.module_at(0xFFFF) is None


def test_other_notes_stay_raw_with_their_thread(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.note(b"CORE", 0x53494749, b"signal".ljust(128, b"\0"))
    builder.thread(1)
    builder.note(b"CORE", 2, b"fp1")
    builder.note(b"LINUX", 0x202, b"xstate1")
    builder.thread(2)
    builder.note(b"CORE", 2, b"fp2")
    builder.note(b"GDB", 0xFF000000, b"<target/>")
    core = opened(tmp_path, builder)
    assert [[n.desc for n in t.notes] for t in core.threads] == [[b"fp1", b"xstate1"], [b"fp2"]]
    assert core.siginfo.startswith(b"signal\0")
    assert [(n.owner, n.desc[:6]) for n in core.raw_notes] == [
        (b"CORE", b"signal"),
        (b"GDB", b"<targe"),
    ]


def test_a_damaged_note_leaves_the_others(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.thread(1)
    builder.note(b"CORE", 2, b"fp of 1")
    builder.note(b"CORE", 1, b"too short for a thread")
    builder.note(b"CORE", 2, b"fp of the damaged one")
    builder.note(b"CORE", 0x46494C45, struct.pack("<QQ", 1 << 40, 4096))
    builder.note(b"CORE", 3, b"short")
    builder.auxv({9: 7})
    core = opened(tmp_path, builder)
    assert [t.lwp for t in core.threads] == [1]
    assert [n.desc for n in core.threads[0].notes] == [b"fp of 1"]
    assert core.auxv == {9: 7}
    assert core.modules == []
    assert core.prpsinfo is None
    told = [str(problem) for problem in core.problems]
    assert len(told) == 3
    assert "NT_PRSTATUS" in told[0]
    assert "NT_FILE" in told[1]
    assert "saw 1099511627776" in told[1]
    assert "NT_PRPSINFO" in told[2]
    # The place named is where the bytes are.
    place = int(core.problems[1].where.removeprefix("file offset "), 16)
    assert core.source.read(place, 16) == struct.pack("<QQ", 1 << 40, 4096)


def test_a_count_of_mappings_is_checked_against_what_is_there(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.note(b"CORE", 0x46494C45, struct.pack("<QQ", 1000, 4096))
    core = opened(tmp_path, builder)
    assert core.modules == []
    assert core.problems[0].expected == "24000 for 1000 mappings"


def test_file_names_that_are_missing_lose_only_their_rows(tmp_path: Path) -> None:
    builder = CoreBuilder()
    body = struct.pack("<QQ6Q", 2, 4096, 0x1000, 0x2000, 0, 0x3000, 0x4000, 0)
    builder.note(b"CORE", 0x46494C45, body + b"/bin/a\0/bin/b without its end")
    core = opened(tmp_path, builder)
    assert [m.path for m in core.modules] == ["/bin/a"]
    assert "among its file names" in str(core.problems[0])
    assert (core.problems[0].seen, core.problems[0].expected) == ("1 names", "2")


def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.files([(0x1000, 0x2000, 0, b"/tmp/\xff\xfe")])
    assert opened(tmp_path, builder).modules[0].path == r"/tmp/\xff\xfe"


@pytest.mark.parametrize("alignment", [4, 8])
@pytest.mark.parametrize("notes_last", [False, True])
def test_several_note_segments_anywhere_in_the_file(
    tmp_path: Path, alignment: int, notes_last: bool
) -> None:
    builder = CoreBuilder(notes_last=notes_last, note_alignment=alignment, split_notes=True)
    builder.segment(0x5000, b"memory")
    builder.auxv({9: 7})
    builder.process(3, b"name", b"arguments")
    builder.thread(1)
    builder.thread(2)
    core = opened(tmp_path, builder)
    assert [t.lwp for t in core.threads] == [1, 2]
    assert (core.auxv, core.prpsinfo is not None, core.problems) == ({9: 7}, True, [])


def test_damage_in_one_note_segment_leaves_the_next(tmp_path: Path) -> None:
    builder = CoreBuilder(split_notes=True)
    builder.note(b"CORE", 1, b"")
    builder.notes[0] = struct.pack("<III", 5, 1 << 31, 1) + b"CORE\0\0\0\0"
    builder.thread(9)
    core = opened(tmp_path, builder)
    assert [t.lwp for t in core.threads] == [9]
    assert "the core's notes are damaged" in str(core.problems[0])


def test_the_number_of_notes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vringcore.elfcore.notes._MAX_NOTES", 10)
    builder = CoreBuilder()
    for lwp in range(1, 20):
        builder.thread(lwp)
    core = opened(tmp_path, builder)
    assert len(core.threads) == 10
    assert "too many notes" in str(core.problems[0])
