"""Damaged tables and stacks: an answer or one of our errors, in bounded steps."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unwind.support import BIAS, loaded
from tests.view.memory import Memory
from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.memory.space import AddressSpace, HostSpace, Piece, Range
from vringcore.unwind.cfi import row_at
from vringcore.unwind.ehframe import PT_GNU_EH_FRAME, UnwindTable
from vringcore.unwind.frames import MAX_FRAMES, UNREADABLE, Unwinder
from vringcore.unwind.images import Image

STACK = 0x10000
STACK_SIZE = 0x800

ALWAYS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Patched(AddressSpace[HostAddress]):
    """Memory with some bytes replaced, and a stack."""

    def __init__(self, space: HostSpace, patches: dict[int, int], stack: bytes = b"") -> None:
        self._space, self._patches, self._stack = space, patches, stack

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        if STACK <= address < STACK + len(self._stack):
            data = self._stack[address - STACK :][:size]
            yield Piece(address, len(data), data, None)
            if len(data) < size:
                yield from self.pieces(HostAddress(address + len(data)), size - len(data))
            return
        for piece in self._space.pieces(address, size):
            if piece.data is not None:
                changed = bytearray(piece.data)
                for at in range(piece.size):
                    changed[at] = self._patches.get(piece.address + at, changed[at])
                yield Piece(piece.address, piece.size, bytes(changed), None)
            else:
                yield piece

    def ranges(self) -> Sequence[Range]:
        return self._space.ranges()


def tables_of(path: Path) -> tuple[int, int, int]:
    """Return the address of the header, and where the tables begin and end."""
    _, module = loaded(path)
    [header] = [p for p in module.program_headers if p.type == PT_GNU_EH_FRAME]
    start = header.vaddr + BIAS
    return start, start, start + header.memsz + 0x400


@ALWAYS
@given(data=st.data())
def test_damaged_tables(library: Path, data: st.DataObject) -> None:
    space, module = loaded(library)
    header, start, end = tables_of(library)
    patches = data.draw(
        st.dictionaries(st.integers(start, end - 1), st.integers(0, 255), min_size=1, max_size=12)
    )
    damaged = Patched(space, patches)
    try:
        table = UnwindTable(damaged, header)
    except VringcoreError:
        return
    for low, high in Image(module, space).code:
        for pc in range(low, min(high, low + 0x400), 0x20):
            try:
                entry = table.entry_at(pc)
                row = row_at(entry, pc) if entry is not None else None
                if row is not None:
                    row.cfa({7: STACK, 6: STACK}, damaged)
            except VringcoreError:
                continue


@ALWAYS
@given(data=st.data())
def test_stacks_of_anything(library: Path, data: st.DataObject) -> None:
    space, module = loaded(library)
    low, high = Image(module, space).code[0]
    words = st.one_of(
        st.integers(low, high), st.integers(STACK, STACK + STACK_SIZE), st.integers(0, 2**64 - 1)
    )
    content = data.draw(st.lists(words, min_size=1, max_size=STACK_SIZE // 8))
    _, start, end = tables_of(library)
    patches = data.draw(
        st.dictionaries(st.integers(start, end - 1), st.integers(0, 255), max_size=3)
    )
    stack = struct.pack(f"<{len(content)}Q", *content)
    registers = {name: data.draw(words) for name in ("rip", "rsp", "rbp", "rbx", "r12", "r10")}
    found = Unwinder(Patched(space, patches, stack), [module], "x86-64").backtrace(registers)
    assert len(found.frames) <= MAX_FRAMES
    assert found.frames or not (registers["rip"] or registers["rsp"])
    assert found.end
    places = [frame.registers["rsp"] for frame in found.frames]
    assert places == sorted(places)


def test_a_circle_is_left() -> None:
    """A frame record that leads to itself."""
    memory = Memory()
    memory.put(STACK, struct.pack("<2Q", STACK, 0x5000))
    found = Unwinder(memory, [], "x86-64").backtrace({"rip": 0x5000, "rsp": STACK, "rbp": STACK})
    assert [frame.pc for frame in found.frames] == [0x5000]


def test_a_stack_that_is_not_there_is_told(library: Path) -> None:
    space, module = loaded(library)
    low, _ = Image(module, space).code[0]
    image = Image(module, space)
    pc = next(pc for pc in range(low, low + 0x4000) if image.entry_at(pc) is not None)
    found = Unwinder(space, [module], "x86-64").backtrace({"rip": pc, "rsp": 0x1000})
    assert (len(found.frames), found.end) == (1, UNREADABLE)
    assert "0x100" in found.detail


@pytest.mark.parametrize("registers", [{}, {"rip": 1}, {"rsp": 1}])
def test_without_registers_there_are_no_frames(registers: dict[str, int]) -> None:
    found = Unwinder(Memory(), [], "x86-64").backtrace(registers)
    assert (found.frames, found.end) == ((), UNREADABLE)


def test_a_machine_that_is_not_known_is_told() -> None:
    found = Unwinder(Memory(), [], "s390x").backtrace({"pc": 1})
    assert (found.frames, found.end) == ((), "unknown-machine")
    assert "s390x" in found.detail
