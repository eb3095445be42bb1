from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.synth.core import CoreBuilder, elf_image
from vringcore.elfcore.headers import (
    Note,
    find_build_id,
    iterate_notes,
    read_build_id,
    read_header,
    read_program_headers,
    read_section_headers,
)
from vringcore.errors import CoreFormatError, ElfFormatError
from vringcore.memory.files import FileSource

CLASSES = [(64, False), (64, True), (32, False), (32, True)]


def source_of(tmp_path: Path, data: bytes, what: str = "core") -> FileSource:
    path = tmp_path / "file"
    path.write_bytes(data)
    return FileSource.open(str(path), what=what)


@pytest.mark.parametrize(("elf_class", "big_endian"), CLASSES)
def test_every_class_and_byte_order(tmp_path: Path, elf_class: int, big_endian: bool) -> None:
    core = CoreBuilder(elf_class, big_endian, machine=21)
    core.segment(0x1000, b"abc", memory_size=0x2000, flags=5)
    source = source_of(tmp_path, core.build())
    header = read_header(source)
    assert (header.elf_class, header.big_endian) == (elf_class, big_endian)
    assert (header.type, header.machine, header.phnum) == (4, 21, 1)
    assert header.pointer_size == elf_class // 8
    (segment,) = read_program_headers(source, header)
    assert (segment.type, segment.flags, segment.vaddr) == (1, 5, 0x1000)
    assert (segment.filesz, segment.memsz, segment.align) == (3, 0x2000, 1)
    assert source.read(segment.offset, segment.filesz) == b"abc"


@pytest.mark.parametrize(("elf_class", "big_endian"), CLASSES)
def test_the_extended_count_is_resolved(tmp_path: Path, elf_class: int, big_endian: bool) -> None:
    core = CoreBuilder(elf_class, big_endian, extended_count=True)
    for index in range(3):
        core.segment(0x1000 * index)
    source = source_of(tmp_path, core.build())
    assert read_header(source).phnum == 3


def test_an_extended_count_without_section_headers_is_an_error(tmp_path: Path) -> None:
    core = CoreBuilder()
    core.segment(0x1000)
    image = bytearray(core.build())
    struct.pack_into("<H", image, 56, 0xFFFF)
    with pytest.raises(CoreFormatError, match="PN_XNUM"):
        read_header(source_of(tmp_path, bytes(image)), CoreFormatError)


def test_a_core_cut_before_section_header_0_is_counted_by_its_first_note(tmp_path: Path) -> None:
    core = CoreBuilder()
    core.note(b"CORE", 1, b"x")
    for index in range(0x10000):
        core.segment(0x1000 * index, b"y")
    image = core.build()
    whole = read_header(source_of(tmp_path, image))
    cut = read_header(source_of(tmp_path, image[:-70]))
    assert whole.phnum == cut.phnum == 0x10001


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"", "an empty file"),
        (b"hello, this is text\n", "text ('hello, this is t')"),
        (b"\x7fELG" + bytes(60), "the bytes 7f 45 4c 47"),
        (b"\x7fELF", "the end of the file"),
        (b"\x7fELF\x03\x01\x01" + bytes(60), "03 01"),
        (b"\x7fELF\x02\x03\x01" + bytes(60), "02 03"),
        (CoreBuilder().build()[:40], "40 bytes"),
    ],
)
def test_what_is_no_elf_file_is_told_apart(tmp_path: Path, data: bytes, seen: str) -> None:
    with pytest.raises(ElfFormatError) as caught:
        read_header(source_of(tmp_path, data))
    assert seen in str(caught.value)
    assert "file" in caught.value.where


@pytest.mark.parametrize(("offset", "name"), [(54, "program"), (58, "section")])
def test_entries_of_an_unknown_size_are_refused(tmp_path: Path, offset: int, name: str) -> None:
    core = CoreBuilder(section_headers=1)
    core.segment(0)
    image = bytearray(core.build())
    struct.pack_into("<H", image, offset, 57)
    with pytest.raises(ElfFormatError, match=f"{name} headers of an unknown size at .*: saw 57"):
        read_header(source_of(tmp_path, bytes(image)))


def test_missing_program_headers_are_left_out(tmp_path: Path) -> None:
    core = CoreBuilder()
    for index in range(10):
        core.segment(0x1000 * index)
    source = source_of(tmp_path, core.build()[: 64 + 56 * 4 + 20])
    header = read_header(source)
    assert header.phnum == 10
    assert [p.vaddr for p in read_program_headers(source, header)] == [0, 0x1000, 0x2000, 0x3000]


@pytest.mark.parametrize(
    ("count", "message"),
    [(1 << 60, "too many section headers"), (1000, "cut before the end of its section headers")],
)
def test_a_section_count_beyond_the_file_is_refused_before_reading(
    tmp_path: Path, count: int, message: str
) -> None:
    image = bytearray(CoreBuilder(section_headers=2).build())
    struct.pack_into("<H", image, 60, 0)  # e_shnum 0: the count is sh_size of section 0
    (shoff,) = struct.unpack_from("<Q", image, 40)
    struct.pack_into("<Q", image, shoff + 32, count)
    source = source_of(tmp_path, bytes(image))
    header = read_header(source)
    assert header.shnum == count
    with pytest.raises(ElfFormatError, match=message):
        read_section_headers(source, header)


def test_a_segment_count_that_a_sparse_file_makes_room_for_is_refused(tmp_path: Path) -> None:
    core = CoreBuilder(extended_count=True)
    core.segment(0, b"x")
    image = bytearray(core.build())
    (shoff,) = struct.unpack_from("<Q", image, 40)
    struct.pack_into("<I", image, shoff + 44, 0xFFFFFFFF)
    path = tmp_path / "sparse"
    path.write_bytes(image)
    os.truncate(path, 1 << 40)
    with (
        FileSource.open(str(path), what="core") as source,
        pytest.raises(CoreFormatError, match="claims too many program headers"),
    ):
        read_header(source, CoreFormatError)


def readelf(*arguments: str) -> str:
    return subprocess.run(
        ["readelf", "-W", *arguments], capture_output=True, text=True, check=True
    ).stdout


def test_a_real_program_as_readelf_sees_it() -> None:
    path = sys.executable
    sections = []
    for line in readelf("-S", path).splitlines():
        if line.startswith("  [") and "Name" not in line:
            number, rest = line.split("]", 1)
            sections.append((int(number.strip(" [")), rest))
    with FileSource.open(path, what="executable") as source:
        header = read_header(source)
        ours = read_section_headers(source, header)
        assert len(ours) == len(sections) == header.shnum
        for section, (number, rest) in zip(ours, sections, strict=True):
            assert section.index == number
            fields = rest.split()
            if number:
                assert section.name == fields[0]
                assert [section.addr, section.offset, section.size] == [
                    int(text, 16) for text in fields[2:5]
                ]
        (build_id,) = [
            line.split(":")[1].strip()
            for line in readelf("-n", path).splitlines()
            if "Build ID" in line
        ] or [""]
        assert read_build_id(source, header) == build_id


def test_the_build_id_by_segments_where_there_are_no_sections(tmp_path: Path) -> None:
    source = source_of(tmp_path, elf_image(build_id=bytes.fromhex("00ff10")))
    assert read_build_id(source, read_header(source)) == "00ff10"


def raw_note(owner: bytes, kind: int, desc: bytes, align: int) -> bytes:
    raw = struct.pack("<III", len(owner), len(desc), kind) + owner
    raw += bytes(-len(raw) % align) + desc
    return raw + bytes(-len(raw) % align)


@pytest.mark.parametrize("align", [4, 8])
def test_notes_are_padded_to_their_alignment(align: int) -> None:
    data = raw_note(b"GNU\0", 5, b"12345678abcd", align) + raw_note(b"Xy\0", 7, b"", align)
    data += raw_note(b"GNU\0", 3, b"\xab\xcd", align)
    notes = list(iterate_notes(data, "<", align))
    assert [(n.owner, n.type, n.desc) for n in notes] == [
        (b"GNU", 5, b"12345678abcd"),
        (b"Xy", 7, b""),
        (b"GNU", 3, b"\xab\xcd"),
    ]
    assert all(data[n.offset : n.offset + len(n.desc)] == n.desc for n in notes)
    assert find_build_id(data, "<", align) == "abcd"


def test_notes_before_the_damage_are_kept() -> None:
    good = raw_note(b"CORE\0", 1, b"abcd", 4)
    bad = struct.pack("<III", 5, 1 << 31, 6) + b"CORE\0\0\0\0"
    found: list[Note] = []
    with pytest.raises(ElfFormatError, match="a note does not fit"):
        found.extend(iterate_notes(good + bad, "<"))
    notes = iterate_notes(good + bad, "<")
    assert next(notes).desc == b"abcd"
    assert find_build_id(good + bad, "<") == ""
    with pytest.raises(ElfFormatError, match="5 bytes"):
        list(iterate_notes(good + b"\1\2\3\4\5", "<"))


def test_zeros_after_the_notes_are_padding() -> None:
    good = raw_note(b"CORE\0", 1, b"abcd", 4)
    assert len(list(iterate_notes(good + bytes(4096), "<"))) == 1
