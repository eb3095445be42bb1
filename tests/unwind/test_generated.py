"""Code that a program makes while it runs, as it tells debuggers of it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.view.memory import Memory
from vringcore.errors import DwarfError, MemoryFault
from vringcore.unwind.cfi import row_at
from vringcore.unwind.generated import MAX_FILES, generated_code

CODE, SIZE = 0x7F00_0000_0000, 0x10_0000
DESCRIPTOR, ENTRY, FILE = 0x10_0000, 0x10_0100, 0x10_1000

RULES = bytes.fromhex("0c07c009 9001 8602 8303")
"""DW_CFA_def_cfa rsp, 1216; rip at cfa-8, rbp at cfa-16, rbx at cfa-24."""


def debug_frame() -> bytes:
    common = struct.pack("<IB", 0xFFFFFFFF, 1) + b"\0" + bytes([1, 0x78, 16])
    common += bytes(-len(common) % 4)
    function = struct.pack("<IQQ", 0, CODE, SIZE) + RULES
    return b"".join(struct.pack("<I", len(each)) + each for each in (common, function))


def elf_file() -> bytes:
    """An ELF file that describes one function, as a maker of code lays it in memory."""
    names = b"\0.text\0.debug_frame\0.symtab\0.strtab\0made_code\0"

    def name(text: bytes) -> int:
        return names.index(b"\0" + text + b"\0") + 1

    symbols = bytes(24) + struct.pack("<IBBHQQ", name(b"made_code"), 0x12, 0, 1, CODE, SIZE)
    body, places = bytearray(64), []
    for data in (debug_frame(), symbols, names):
        places.append((len(body), len(data)))
        body += data
    rows = [
        (0,) * 10,
        (name(b".text"), 8, 6, CODE, 0, SIZE, 0, 0, 0, 0),
        (name(b".debug_frame"), 1, 0, 0, *places[0], 0, 0, 0, 0),
        (name(b".symtab"), 2, 0, 0, *places[1], 4, 0, 0, 24),
        (name(b".strtab"), 3, 0, 0, *places[2], 0, 0, 0, 0),
    ]
    table = len(body)
    for row in rows:
        body += struct.pack("<IIQQQQIIQQ", *row)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, table, 0, 64, 56, 0, 64, len(rows), 4)
    body[:64] = ident + header
    return bytes(body)


def memory_with(file: bytes, *, version: int = 1, following: int = 0) -> Memory:
    memory = Memory()
    memory.put(DESCRIPTOR, struct.pack("<IIQQ", version, 1, ENTRY, ENTRY))
    memory.put(ENTRY, struct.pack("<QQQQ", following, 0, FILE, len(file)))
    memory.put(FILE, file)
    return memory


def test_the_function_and_its_rules_are_found() -> None:
    (code,) = generated_code(memory_with(elf_file()), DESCRIPTOR, "<")
    function = code.function_at(CODE + 5)
    assert function is not None
    assert (function.name, function.start, function.end) == ("made_code", CODE, CODE + SIZE)
    entry = code.entry_at(CODE + SIZE - 1)
    assert entry is not None
    row = row_at(entry, CODE + 5)
    assert (row.cfa_register, row.cfa_offset) == (7, 1216)
    assert set(row.rules) == {16, 6, 3}
    assert code.entry_at(CODE + SIZE) is code.entry_at(CODE - 1) is None
    assert code.function_at(CODE + SIZE) is code.function_at(CODE - 1) is None


def test_a_list_that_leads_back_ends() -> None:
    found = generated_code(memory_with(elf_file(), following=ENTRY), DESCRIPTOR, "<")
    assert len(found) == MAX_FILES


def test_a_list_that_leads_out_of_memory_ends_there() -> None:
    found = generated_code(memory_with(elf_file(), following=0xDEAD_0000), DESCRIPTOR, "<")
    assert len(found) == 1


def test_another_version_and_a_lost_descriptor_are_told() -> None:
    with pytest.raises(DwarfError, match="version 2"):
        generated_code(memory_with(elf_file(), version=2), DESCRIPTOR, "<")
    with pytest.raises(MemoryFault):
        generated_code(Memory(), DESCRIPTOR, "<")


def test_a_file_that_is_lost_or_none_is_left_out() -> None:
    memory = memory_with(elf_file())
    memory.take(FILE + 80, 8)
    assert generated_code(memory, DESCRIPTOR, "<") == ()
    assert generated_code(memory_with(b"no ELF file"), DESCRIPTOR, "<") == ()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(elf_file()) - 1), st.integers(0, 255)), min_size=1, max_size=6
    )
)
def test_damaged_files_end_in_entries_or_in_none(changes: list[tuple[int, int]]) -> None:
    file = bytearray(elf_file())
    for place, value in changes:
        file[place] = value
    found = generated_code(memory_with(bytes(file)), DESCRIPTOR, "<")
    assert len(found) <= 1
