"""A stack of aarch64 functions, laid out by hand where their tables say."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile

from tests.unwind.support import BIAS, loaded
from tests.unwind.test_damage import STACK, Patched
from tests.unwind.test_tables import entries
from vringcore.unwind.cfi import How, row_at
from vringcore.unwind.frames import Unwinder
from vringcore.unwind.images import Image

SIGNATURE = 0x2A << 48
LINK, FRAME_POINTER = 30, 29


class Place(NamedTuple):
    """An instruction of a function that reckons its frame from the frame pointer.

    ``size`` is what to add to the frame pointer; ``link`` and ``pointer`` are where, from the
    frame's address, the caller's registers are saved.
    """

    pc: int
    size: int
    link: int
    pointer: int


def places(arm_library: Path) -> list[Place]:
    """Return one instruction of each function, where the return address is saved and signed."""
    space, module = loaded(arm_library)
    image = Image(module, space)
    found = []
    for entry in entries(arm_library):
        start = entry["initial_location"] + BIAS
        for pc in range(start + 8, start + entry["address_range"], 4):
            known = image.entry_at(pc)
            assert known is not None
            row = row_at(known, pc)
            rules = [row.rules.get(n, (How.SAME, 0, b"")) for n in (LINK, FRAME_POINTER)]
            if {rule[0] for rule in rules} == {How.OFFSET} and row.cfa_register == FRAME_POINTER:
                assert row.signed
                found.append(Place(pc, row.cfa_offset, rules[0][1], rules[1][1]))
                break
    return found


def test_signed_return_addresses_lead_to_the_callers(arm_library: Path) -> None:
    space, module = loaded(arm_library)
    inner, outer, *_ = places(arm_library)
    first, second = STACK + 0x100, STACK + 0x200
    stack = bytearray(0x200)

    def put(address: int, value: int) -> None:
        struct.pack_into("<Q", stack, address - STACK, value)

    put(first + inner.link, SIGNATURE | outer.pc + 4)
    put(first + inner.pointer, second - outer.size)
    put(second + outer.link, 0)
    registers = {"pc": inner.pc, "sp": STACK, "x29": first - inner.size, "x30": 0xBAD, "x0": 7}
    memory = Patched(space, {}, bytes(stack))
    found = Unwinder(memory, [module], "aarch64").backtrace(registers)
    assert [frame.pc for frame in found.frames] == [inner.pc, outer.pc + 4]
    assert [frame.cfa for frame in found.frames] == [first, second]
    assert found.frames[1].registers["sp"] == first
    assert found.frames[1].registers.keys().isdisjoint({"x30", "x0"}), "a call changes them"
    assert [frame.how for frame in found.frames] == ["registers", "cfi"]
    assert found.end == "outermost"


def test_a_leaf_has_its_return_address_in_the_link_register(arm_library: Path) -> None:
    space, module = loaded(arm_library)
    [pc] = [address + BIAS for name, address in symbols(arm_library).items() if name == "leaf"]
    caller, *_ = places(arm_library)
    stack = bytearray(0x100)
    memory = Patched(space, {}, bytes(stack))
    registers = {"pc": pc, "sp": STACK, "x29": STACK + 0x80, "x30": caller.pc + 4}
    found = Unwinder(memory, [module], "aarch64").backtrace(registers)
    assert [frame.pc for frame in found.frames] == [pc, caller.pc + 4]
    assert [frame.cfa for frame in found.frames] == [STACK, STACK + 0x80 + caller.size]


def symbols(path: Path) -> dict[str, int]:
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}
