from __future__ import annotations

from pathlib import Path

import pytest

from tests.synth.core import EXECUTE, READ, WRITE, CoreBuilder, Segment, elf_image
from vringcore.addresses import HostAddress
from vringcore.elfcore.core import ElfCore, open_elf_core
from vringcore.elfcore.executable import read_executable
from vringcore.errors import CoreFormatError, ElfFormatError, FileError, MemoryFault
from vringcore.memory.files import FileSource
from vringcore.memory.gaps import GapKind

PROGRAM = 0x5500_0000_0000
LIBRARY = 0x7F00_0000_0000
RAM = 0x7E00_0000_0000
BUILD_ID = bytes(range(20))
PAGE = 0x1000


def process() -> CoreBuilder:
    """A program of four pages, a library of which nothing was dumped, and guest RAM in a memfd."""
    core = CoreBuilder()
    core.thread(10, rip=PROGRAM + 0x1040, signal=6)
    core.process(10, b"program", b"program -x")
    core.note(b"CORE", 0x53494749, bytes(128))
    core.auxv({3: PROGRAM + 64, 9: PROGRAM + 0x1040, 31: PROGRAM + 0x3100})
    core.files(
        [
            (PROGRAM, PROGRAM + PAGE, 0, b"/usr/bin/program"),
            (PROGRAM + PAGE, PROGRAM + 3 * PAGE, PAGE, b"/usr/bin/program"),
            (PROGRAM + 3 * PAGE, PROGRAM + 4 * PAGE, 3 * PAGE, b"/usr/bin/program"),
            (RAM, RAM + 16 * PAGE, 0, b"/memfd:pc.ram (deleted)"),
            (LIBRARY, LIBRARY + 2 * PAGE, 0, b"/lib/libthing.so"),
        ]
    )
    core.segment(PROGRAM, elf_image(build_id=BUILD_ID), flags=READ)
    core.segment(PROGRAM + PAGE, memory_size=2 * PAGE, flags=READ | EXECUTE)
    data = b"data".ljust(0x100, b"\0") + b"./program\0"
    core.segment(PROGRAM + 3 * PAGE, data.ljust(PAGE, b"\0"), flags=READ | WRITE)
    core.segment(RAM, memory_size=16 * PAGE, flags=READ | WRITE)
    core.segment(LIBRARY, memory_size=2 * PAGE, flags=READ)
    return core


def opened(tmp_path: Path, builder: CoreBuilder) -> ElfCore:
    path = tmp_path / "core"
    path.write_bytes(builder.build())
    return open_elf_core(str(path))


def program_file(tmp_path: Path) -> FileSource:
    path = tmp_path / "program"
    first = elf_image(build_id=BUILD_ID, size=3 * PAGE)
    path.write_bytes(first + b"T" * PAGE + b"R" * PAGE + b"D" * PAGE)
    return FileSource.open(str(path), what="executable")


def fault(space: object, address: int) -> MemoryFault:
    with pytest.raises(MemoryFault) as caught:
        space.read(HostAddress(address), 4)  # type: ignore[attr-defined]
    return caught.value


def test_the_executable_and_its_load_bias(tmp_path: Path) -> None:
    with opened(tmp_path, process()) as core:
        program, ram, library = core.modules
        assert core.executable is program
        assert program.is_executable
        assert not library.is_executable
        assert program.build_id == BUILD_ID.hex()
        assert program.load_bias == PROGRAM
        assert core.executable_bias(0x1040) == PROGRAM
        assert core.executable_path == "/usr/bin/program"
        assert core.string_at(core.auxv[31]) == "./program"
        assert (ram.path, ram.deleted, ram.header) == ("/memfd:pc.ram", True, None)
        assert (library.build_id, library.load_bias, library.program_headers) == ("", None, [])
        assert core.truncated is False
        assert core.size == len(process().build())


def test_the_bias_of_a_file_linked_elsewhere(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.segment(0x40_0000, elf_image(vaddr=0x40_0000))
    builder.segment(0x80_0000, elf_image(vaddr=0x20_0000))
    builder.files(
        [(0x40_0000, 0x40_1000, 0, b"/bin/fixed"), (0x80_0000, 0x80_1000, 0, b"/lib/prelinked")]
    )
    core = opened(tmp_path, builder)
    assert [module.load_bias for module in core.modules] == [0, 0x60_0000]


def test_a_library_without_its_header_page_is_placed_by_its_file(tmp_path: Path) -> None:
    core = opened(tmp_path, process())
    file = read_executable(program_file(tmp_path))
    assert core.modules[2].bias_by(file.program_headers) == LIBRARY
    assert core.modules[2].bias_by([]) is None


def test_files_lie_beneath_the_core(tmp_path: Path) -> None:
    core = opened(tmp_path, process())
    space = core.with_files({"/usr/bin/program": program_file(tmp_path)})
    assert space.read(HostAddress(PROGRAM + PAGE), PAGE) == b"T" * PAGE
    assert space.read(HostAddress(PROGRAM + 3 * PAGE - 4), 8) == b"RRRRdata"
    assert core.memory.file_offset_of(PROGRAM + PAGE) is None


def test_a_gap_says_what_would_fill_it(tmp_path: Path) -> None:
    core = opened(tmp_path, process())
    space = core.with_files({})
    program = fault(space, PROGRAM + PAGE + 0x10).gap
    assert (program.kind, program.file) == (GapKind.FILE_NEEDED, "/usr/bin/program")
    assert (program.file_offset, program.build_id) == (PAGE + 0x10, BUILD_ID.hex())
    assert "-e PATH" in program.hint
    assert BUILD_ID.hex() in program.hint
    library = fault(space, LIBRARY)
    assert (library.gap.kind, library.gap.file) == (GapKind.FILE_NEEDED, "/lib/libthing.so")
    assert "--sysroot" in str(library)
    ram = fault(space, RAM).gap
    assert ram.kind is GapKind.NOT_DUMPED
    assert "coredump_filter" in ram.hint


@pytest.mark.parametrize("flags", [READ | WRITE, READ])
def test_what_a_process_may_have_changed_is_not_read_from_the_file(
    tmp_path: Path, flags: int
) -> None:
    """Neither writable pages nor those that were before relocation ended."""
    builder = process()
    builder.segments[2] = Segment(PROGRAM + 3 * PAGE, b"", 0, PAGE, flags)
    core = opened(tmp_path, builder)
    path = tmp_path / "program"
    first = elf_image(build_id=BUILD_ID, size=3 * PAGE, writable=(3 * PAGE, PAGE))
    path.write_bytes(first + b"T" * PAGE + b"R" * PAGE + b"D" * PAGE)
    source = FileSource.open(str(path), what="executable")
    space = core.with_files({"/usr/bin/program": source}, read_executable(source))
    assert space.read(HostAddress(PROGRAM + 3 * PAGE - 4), 4) == b"RRRR"
    assert fault(space, PROGRAM + 3 * PAGE).gap.kind is GapKind.NOT_DUMPED


def test_guest_ram_in_a_named_file_is_not_asked_for_as_a_file(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.files([(RAM, RAM + PAGE, 0, b"/mnt/huge/ram")])
    builder.segment(RAM, memory_size=PAGE, flags=READ | WRITE)
    space = opened(tmp_path, builder).with_files({})
    assert fault(space, RAM).gap.kind is GapKind.NOT_DUMPED


def test_a_core_without_mapped_files_takes_the_executable_by_its_entry(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.auxv({9: PROGRAM + 0x1040, 31: RAM})
    builder.segment(RAM, b"./program\0")
    core = opened(tmp_path, builder)
    assert core.executable is None
    assert core.executable_path == "./program"
    file = read_executable(program_file(tmp_path))
    assert (file.build_id, file.phdr_vaddr, file.header.entry) == (BUILD_ID.hex(), 64, 0x1040)
    space = core.with_files({}, file)
    assert space.read(HostAddress(PROGRAM), 4) == b"\x7fELF"
    assert space.read(HostAddress(PROGRAM + PAGE), 4) == b"TTTT"
    assert fault(space, PROGRAM + 3 * PAGE).gap.kind is GapKind.UNMAPPED


def test_without_any_note_the_executable_is_found_by_its_build_id(tmp_path: Path) -> None:
    builder = process()
    builder.notes.clear()
    core = opened(tmp_path, builder)
    file = read_executable(program_file(tmp_path))
    assert core.executable_bias(0x1040, file.build_id) == PROGRAM
    assert core.with_files({}, file).read(HostAddress(PROGRAM + PAGE), 4) == b"TTTT"
    assert core.image_of("00ff") is None
    with pytest.raises(CoreFormatError, match="does not tell where its executable was loaded"):
        core.executable_bias(0x1040)


def test_a_core_that_does_not_tell_its_bias_says_why(tmp_path: Path) -> None:
    builder = CoreBuilder()
    builder.note(b"CORE", 3, b"short")
    core = opened(tmp_path, builder)
    with pytest.raises(CoreFormatError) as caught:
        core.executable_bias(0x1040)
    assert "no NT_AUXV" in str(caught.value)
    assert "NT_PRPSINFO" in str(caught.value)


@pytest.mark.parametrize("address", [None, 0, 0xDEAD, 1 << 64, (1 << 64) - 3])
def test_a_string_that_cannot_be_read_is_empty(tmp_path: Path, address: int | None) -> None:
    assert opened(tmp_path, process()).string_at(address) == ""


def test_memory_of_a_closed_core_is_a_fault(tmp_path: Path) -> None:
    with opened(tmp_path, process()) as core:
        pass
    assert fault(core.memory, PROGRAM + 3 * PAGE).gap.kind is GapKind.IO
    assert core.threads[0].registers["rip"] == PROGRAM + 0x1040


def kinds() -> list[tuple[str, CoreBuilder]]:
    kernel = process()
    gdb = CoreBuilder(section_headers=4)
    gdb.process(1, b"p", b"p")
    gdb.thread(1)
    described = CoreBuilder(section_headers=4)
    described.thread(1)
    described.note(b"GDB", 0xFF000000, b"<target/>")
    slim = process()
    slim.note(b"VRINGCORE", 1, b"")
    emulated = CoreBuilder()
    emulated.thread(1)
    emulated.process(1, b"p", b"p")
    return [
        ("kernel", kernel),
        ("gcore", gdb),
        ("gcore", described),
        ("slim", slim),
        ("unknown", emulated),
    ]


@pytest.mark.parametrize(("kind", "builder"), kinds())
def test_who_wrote_the_core(tmp_path: Path, kind: str, builder: CoreBuilder) -> None:
    assert opened(tmp_path, builder).kind == kind


def refused(tmp_path: Path, data: bytes) -> CoreFormatError:
    path = tmp_path / "core"
    path.write_bytes(data)
    with pytest.raises(CoreFormatError) as caught:
        open_elf_core(str(path))
    assert str(path) in str(caught.value)
    return caught.value


def test_what_is_not_a_core_is_told_precisely(tmp_path: Path) -> None:
    assert "an empty file" in refused(tmp_path, b"").seen
    assert "text" in refused(tmp_path, b"#!/bin/sh\necho this is no core\n").seen
    program = refused(tmp_path, elf_image())
    assert program.seen == "an executable or shared library"
    assert "-e" in program.hint
    assert refused(tmp_path, CoreBuilder(elf_type=1).build()).seen == "ELF type 1"
    assert "no program headers" in str(refused(tmp_path, CoreBuilder().build()))
    with pytest.raises(FileError, match="No such file"):
        open_elf_core(str(tmp_path / "nothing"))
    with pytest.raises(FileError, match="a directory"):
        open_elf_core(str(tmp_path))


def test_what_is_not_an_executable_is_told_precisely(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(process().build())
    with pytest.raises(ElfFormatError, match="saw a core"):
        read_executable(FileSource.open(str(path), what="executable"))


def test_each_place_where_a_core_can_be_cut(tmp_path: Path) -> None:
    builder = process()
    image = builder.build()
    first, last = builder.offset_of(0), builder.offset_of(2)
    assert "cut inside its ELF header" in str(refused(tmp_path, image[:50]))
    headers = refused(tmp_path, image[: 64 + 56 * 3 + 7])
    assert "cut inside its program headers" in str(headers)
    assert headers.expected == "6 from offset 0x40 on"
    notes = refused(tmp_path, image[: first - 200])
    assert "cut before the first byte of its memory" in str(notes)
    path = tmp_path / "core"
    path.write_bytes(image[: last + 2])
    core = open_elf_core(str(path))
    assert core.truncated
    assert core.memory.read(HostAddress(PROGRAM + 3 * PAGE), 2) == b"da"
    caught = fault(core.with_files({}), PROGRAM + 3 * PAGE)
    assert (caught.address, caught.gap.kind) == (PROGRAM + 3 * PAGE + 2, GapKind.TRUNCATED)


def test_notes_lost_at_the_end_of_the_file_leave_the_memory(tmp_path: Path) -> None:
    builder = process()
    builder.notes_last = True
    image = builder.build()
    path = tmp_path / "core"
    path.write_bytes(image[:-300])
    core = open_elf_core(str(path))
    assert core.truncated
    assert core.memory.read(HostAddress(PROGRAM), 4) == b"\x7fELF"
    assert [thread.lwp for thread in core.threads] == [10]
    assert core.modules == []
    (problem,) = core.problems
    assert "cut inside its notes" in str(problem)
    assert problem.expected == "300 more"


def test_a_core_without_its_last_byte_is_truncated_even_if_no_memory_is_lost(
    tmp_path: Path,
) -> None:
    builder = process()
    builder.section_headers = 3
    image = builder.build()
    path = tmp_path / "core"
    for size, truncated in ((len(image), False), (len(image) - 1, True), (len(image) - 192, True)):
        path.write_bytes(image[:size])
        assert open_elf_core(str(path)).truncated is truncated
