"""Rows of line programs: against pyelftools, made by hand, and damaged."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.debuginfo.conftest import Build
from tests.debuginfo.line_program import STRICT, VARIANTS, build_program
from tests.synth.programs import OTHER_MACHINES, Variant
from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.damage import DAMAGE
from vringcore.debuginfo.dwarf import Dwarf
from vringcore.debuginfo.elf import SHF_ALLOC, ElfFile
from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.lineprogram import FILE_SHIFT, LINE_MASK, Machine, Sequence
from vringcore.debuginfo.lines import LineTable
from vringcore.debuginfo.provider import DebugInfo
from vringcore.errors import DwarfError, VringcoreError

# pyelftools 0.33 cannot follow these: zstd sections, dwz's partial units, and the 32-bit line
# programs that the assembler writes for units of the 64-bit format.
UNREADABLE = {"gcc-zstd", "gcc-dwz", "gcc-dwarf4-64bit", "gcc-dwarf5-64bit"}
ELFTOOLS = [v for v in (STRICT, *VARIANTS) if v.name not in UNREADABLE]

PLAIN = Variant("gcc-plain")
FOUR = Variant("gcc-plain-4", flags=("-gdwarf-4",))

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def tables_of(dwarf: Dwarf) -> Iterator[tuple[int, LineTable]]:
    """Yield every unit's line table with its place."""
    for number in range(len(dwarf.chain)):
        unit = dwarf.unit(number)
        offset = unit.root().integer(dw.AT_STMT_LIST)
        if offset is not None:
            yield offset, LineTable(unit, offset)


def elftools_rows(program: Path) -> dict[int, list[tuple[int, int, int, int, str]]]:
    """Return start, end, file, line and file's name of rows, by place of the program.

    Of those that are alone at their address and begin a line; which of several counts, gdb tells.
    """
    from elftools.elf.elffile import ELFFile

    found: dict[int, list[tuple[int, int, int, int, str]]] = {}
    with program.open("rb") as stream:
        info = ELFFile(stream).get_dwarf_info()
        for unit in info.iter_CUs():
            attribute = unit.get_top_DIE().attributes.get("DW_AT_stmt_list")
            if attribute is None:
                continue
            lines = info.line_program_for_CU(unit)
            first = 0 if lines.header.version >= 5 else 1
            rows = found.setdefault(attribute.value, [])
            before = earlier = None
            for entry in lines.get_entries():
                state = entry.state
                if state is None:
                    continue
                alone = before is not None and (
                    earlier is None
                    or (
                        earlier.address != before.address
                        and (earlier.file, earlier.line) != (before.file, before.line)
                    )
                )
                if alone and state.address > before.address:
                    name = lines.header.file_entry[before.file - first].name.decode()
                    rows.append((before.address, state.address, before.file, before.line, name))
                earlier = None if state.end_sequence else before
                before = None if state.end_sequence else state
    return found


def check_rows(program: Path) -> int:
    truth = elftools_rows(program)
    checked = 0
    with ElfFile.open(str(program)) as elf:
        lowest = min(h.addr for h in elf.headers if h.flags & SHF_ALLOC)
        for offset, table in tables_of(Dwarf(elf)):
            for start, end, file, line, name in truth[offset]:
                if start < lowest:
                    continue  # Left out by the linker, several functions at one address.
                for address in {start, (start + end) // 2, end - 1}:
                    assert table.row(address) == (file, line)
                    checked += 1
                assert table.files.name(file).endswith(name)
    return checked


@pytest.mark.parametrize("variant", ELFTOOLS, ids=lambda v: v.name)
def test_every_row_is_as_pyelftools_has_it(variant: Variant, lined: Build) -> None:
    assert check_rows(lined(variant)) > 150


@pytest.mark.parametrize("variant", OTHER_MACHINES, ids=lambda v: v.name)
def test_rows_of_other_machines_are_as_pyelftools_has_them(variant: Variant, build: Build) -> None:
    assert check_rows(build(variant)) > 50


@needs_gcc
def test_no_row_where_no_code_is(lined: Build) -> None:
    with ElfFile.open(str(lined(PLAIN))) as elf:
        for _, table in tables_of(Dwarf(elf)):
            assert table.row(0) is None
            assert table.row(1 << 63) is None
            assert table.files.name(1 << 40) == ""
            assert table.files.name(-5) == ""


# By hand

STANDARD = bytes((0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1))
"""How many operands the standard opcodes have."""


def run(program: bytes, table: LineTable, **header: int) -> list[Sequence]:
    settings_ = {"instruction": 1, "operations": 1, "line_base": -3, "line_range": 12, **header}
    machine = Machine(lengths=STANDARD, byteorder="little", **settings_)  # type: ignore[arg-type]
    found: list[Sequence] = []
    machine.run(program, 0, table.files, found)
    return found


def rows(sequence: Sequence) -> list[tuple[int, int, int]]:
    pairs = zip(sequence.addresses, sequence.places, strict=True)
    return [(address, place >> FILE_SHIFT, place & LINE_MASK) for address, place in pairs]


def set_address(address: int) -> bytes:
    return b"\0\x09\x02" + address.to_bytes(8, "little")


END = b"\0\x01\x01"


@pytest.fixture
def table(lined: Build) -> LineTable:
    """Return a table whose files a program may add to."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    with ElfFile.open(str(lined(FOUR))) as elf:
        return next(iter(tables_of(Dwarf(elf))))[1]


def special(line: int, advance: int) -> bytes:
    return bytes((13 + line + 3 + 12 * advance,))


def test_every_standard_opcode(table: LineTable) -> None:
    program = (
        set_address(0x1000)
        + b"\x03\xe4\x00\x05\x85\x01\x01"  # advance_line +100, set_column, copy
        + special(2, 3)  # 0x1003, line 103
        + b"\x06\x07\x0a\x0b\x0c\x81\x02"  # what tells nothing of file and line
        + b"\x02\x90\x01\x03\x7f\x01"  # advance_pc 144, line -1
        + b"\x04\x03\x08\x01"  # file 3, const_add_pc 20
        + b"\x09\x00\x01\x04\x82\x01"  # fixed_advance_pc 256, file 130
        + special(0, 0)
        + b"\0\x02\x04\x07"  # a discriminator
        + b"\x02\x04" + END
        + set_address(0x500) + b"\x01\x02\x01" + END
    )  # fmt: skip
    first, second = run(program, table)
    assert rows(first) == [
        (0x1000, 1, 101), (0x1003, 1, 103), (0x1093, 1, 102), (0x10A7, 3, 102), (0x11A7, 130, 102),
    ]  # fmt: skip
    assert (first.start, first.end) == (0x1000, 0x11AB)
    assert rows(second) == [(0x500, 1, 1)]
    assert second.end == 0x501


def test_operations_of_one_instruction_share_its_address(table: LineTable) -> None:
    program = (
        set_address(0x2000) + special(0, 0) + special(1, 2) + special(1, 1) + special(1, 7)
        + b"\x02\x03" + END
    )  # fmt: skip
    [sequence] = run(program, table, instruction=16, operations=3)
    # Operations 0, 2, 3 and 10 of instructions of three, 16 bytes each.
    # The last of those of one address counts.
    assert rows(sequence) == [(0x2000, 1, 2), (0x2010, 1, 3), (0x2030, 1, 4)]
    assert sequence.end == 0x2040


MARK = b"\x06"
"""DW_LNS_negate_stmt."""


def test_of_rows_at_one_address_the_last_statement_counts(table: LineTable) -> None:
    program = (
        set_address(0x1000) + special(1, 0) + special(1, 0) + MARK + special(1, 0)
        + special(1, 4) + MARK
        + special(1, 4) + b"\x04\x02" + special(1, 0) + MARK + b"\x04\x01" + special(1, 0)
        + b"\x02\x04" + END
    )  # fmt: skip
    [sequence] = run(program, table)
    # At 0x1008 file 2 comes in as a statement, and file 1 back without one.
    assert rows(sequence) == [(0x1000, 1, 3), (0x1004, 1, 5), (0x1008, 2, 7)]


def test_a_discriminator_alone_begins_no_line(table: LineTable) -> None:
    parted = b"\0\x02\x04\x03"
    program = (
        set_address(0x1000) + special(1, 0) + parted + special(0, 4) + MARK + special(3, 0)
        + b"\x02\x04" + END
    )  # fmt: skip
    [sequence] = run(program, table)
    # At 0x1004 line 2 is not begun anew, so that line 5 counts though it is no statement.
    assert rows(sequence) == [(0x1000, 1, 2), (0x1004, 1, 5)]


def test_rows_out_of_order_are_sorted(table: LineTable) -> None:
    program = (
        set_address(0x3010) + special(1, 0) + set_address(0x3000) + special(0, 0)
        + set_address(0x3020) + special(1, 0) + b"\x02\x10" + END
    )  # fmt: skip
    [sequence] = run(program, table)
    assert rows(sequence) == [(0x3000, 1, 2), (0x3010, 1, 2), (0x3020, 1, 3)]


def test_a_file_defined_on_the_way(table: LineTable) -> None:
    known = [table.files.name(n) for n in range(1, 100)]
    number = known.index("") + 1
    entry = b"\x03late.c\0\0\0\0"
    run(b"\0" + bytes((len(entry),)) + entry, table)
    assert table.files.name(number + 1) == ""
    assert [table.files.name(n) for n in range(1, number)] == known[: number - 1]


# Damage

PATIENCE = 5.0
"""Seconds that a damaged program of 20 KB may take; far more than it does."""


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    program=st.binary(max_size=400),
    header=st.fixed_dictionaries({
        "instruction": st.integers(1, 255), "operations": st.integers(1, 255),
        "line_base": st.integers(-128, 127), "line_range": st.integers(1, 255),
    }),
)  # fmt: skip
def test_any_bytes_are_a_program_or_damaged(
    table: LineTable, program: bytes, header: dict[str, int]
) -> None:
    try:
        found = run(set_address(0x1000) + program + END, table, **header)
    except (VringcoreError, *DAMAGE):
        return
    for sequence in found:
        assert len(sequence.addresses) == len(sequence.places) <= len(program) + 11
        assert sequence.start == sequence.addresses[0] == min(sequence.addresses)


SECTIONS = (
    ".debug_line", ".debug_info", ".debug_abbrev", ".debug_aranges", ".debug_ranges",
    ".debug_rnglists", ".debug_line_str", ".debug_str_offsets", ".debug_addr",
)  # fmt: skip

SPITEFUL = (0, 0xFF, 0x80, 0x7F, 1)

DAMAGED = [
    v for v in VARIANTS if v.name in ("gcc-dwarf2", "gcc-dwarf4", "gcc-dwarf5", "clang-dwarf5")
]


@pytest.mark.parametrize("variant", DAMAGED, ids=lambda v: v.name)
def test_damage_gives_our_errors_or_other_lines_soon(
    variant: Variant, lined: Build, tmp_path: Path
) -> None:
    program = lined(variant)
    whole = program.read_bytes()
    with ElfFile.open(str(program)) as elf:
        text = next(h for h in elf.headers if h.name == ".text")
        sections = [h for h in elf.headers if h.name in SECTIONS and h.size]
    damaged = tmp_path / "program"

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        changed = bytearray(whole)
        section = data.draw(st.sampled_from(sections))
        for at, value in data.draw(
            st.lists(
                st.tuples(st.integers(0, section.size - 1), st.sampled_from(SPITEFUL)),
                min_size=1, max_size=8,
            )
        ):  # fmt: skip
            changed[section.offset + at] = value
        damaged.write_bytes(changed)
        debug = DebugInfo(find_files("", str(damaged), executable=str(damaged)))
        start = time.monotonic()
        for address in range(text.addr, text.addr + text.size, 37):
            try:
                frames = debug.source_of(address) or ()
            except VringcoreError:
                continue
            assert len(frames) < 300
            assert all(f.line >= 0 for f in frames)
        debug.close()
        assert time.monotonic() - start < PATIENCE

    damage()


@needs_gcc
def test_a_program_cut_short_keeps_what_comes_before(tmp_path: Path) -> None:
    flags = ("-gdwarf-4", "-ffunction-sections")
    program = build_program(Variant("gcc-cut", flags=flags), tmp_path)
    with ElfFile.open(str(program)) as elf:
        dwarf = Dwarf(elf)
        header = next(h for h in elf.headers if h.name == ".debug_line")
        offset, table = next(iter(tables_of(dwarf)))
        starts = [s.start for s in table._sequences]
        kept = {start: table.row(start) for start in starts}
    data = bytearray(program.read_bytes())
    # The last sequence of the unit's program no longer ends: an opcode of endless operands.
    at = header.offset + offset
    size = int.from_bytes(data[at : at + 4], "little") + 4
    data[at + size - 3 : at + size] = b"\x02\xff\xff"
    program.write_bytes(data)
    with ElfFile.open(str(program)) as elf:
        table = next(iter(tables_of(Dwarf(elf))))[1]
        answers = {}
        for start in starts:
            with suppress(DwarfError):
                answers[start] = table.row(start)
    assert 0 < len(answers) < len(kept)
    assert answers == {start: kept[start] for start in answers}


@needs_gcc
@pytest.mark.parametrize("place", ["directories", "files"])
def test_a_table_that_claims_more_than_there_is_is_refused(place: str, tmp_path: Path) -> None:
    program = build_program(Variant("gcc-table", flags=("-gdwarf-5",)), tmp_path)
    with ElfFile.open(str(program)) as elf:
        header = next(h for h in elf.headers if h.name == ".debug_line")
        data = bytearray(program.read_bytes())
    # Version 5: the tables start behind 18 bytes and the 12 lengths of standard opcodes.
    at = header.offset + 18 + 12
    if place == "files":
        columns, count = data[at], data[at + 1 + 2 * data[at]]
        at += 2 + 2 * columns + 4 * count
    columns = data[at]
    data[at + 1 + 2 * columns] = 0x7F
    program.write_bytes(data)
    with ElfFile.open(str(program)) as elf:
        dwarf = Dwarf(elf)
        unit = dwarf.unit(len(dwarf.chain) - 1)
        for number in range(len(dwarf.chain)):
            if dwarf.unit(number).root().integer(dw.AT_STMT_LIST) == 0:
                unit = dwarf.unit(number)
        with pytest.raises((VringcoreError, *DAMAGE)):
            LineTable(unit, 0)
    debug = DebugInfo(find_files("", str(program), executable=str(program)))
    with ElfFile.open(str(program)) as elf:
        text = next(h for h in elf.headers if h.name == ".text")
    found = [debug.source_of(a) or () for a in range(text.addr, text.addr + text.size)]
    assert debug.log
    named = [frames for frames in found if frames and frames[-1].function == "parted"]
    assert named
    assert all(f.line == 0 or i for frames in named for i, f in enumerate(frames))
    debug.close()
