"""Callers where nothing describes the frame: the library's file is not at hand, or code has no
unwind information. What is found so is a guess.

A return address stands behind a call instruction. Of the words on the stack that do, the first is
taken from which call frame information leads on to another such word, or the one that the frame
pointer leads to, whichever comes first. Other words behind calls are left-overs as often as not.
One that call frame information calls the outermost is taken last: a left-over above a zero looks
so too.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.memory.space import HostSpace
    from vringcore.unwind.images import Images
    from vringcore.unwind.registers import Architecture

    Registers = dict[int, int]

MAX_SCAN = 8192
"""Bytes of stack that are looked through for a return address."""

MAX_TRIED = 4096
"""Words behind calls that are tried in one stack."""

MAX_FRAME = 1 << 20
"""The farthest that a frame pointer may lie above the stack pointer."""

_WORD = 8
_LONGEST_CALL = 7


class Guesser:
    """Guesses callers.

    :param callers: a caller's registers by call frame information, empty if there is no caller,
        None if nothing tells
    :param is_trampoline: tells whether a signal handler returns to an address
    """

    def __init__(
        self,
        space: HostSpace,
        images: Images,
        architecture: Architecture,
        callers: Callable[[Registers], Registers | None],
        is_trampoline: Callable[[int], bool],
    ) -> None:
        self._space = space
        self._images = images
        self._machine = architecture
        self._callers = callers
        self._is_trampoline = is_trampoline
        self._known: dict[int, bool | None] = {}
        self._left = MAX_TRIED

    def caller_of(self, registers: Registers) -> Registers | None:
        """Return a caller's program counter, stack pointer and perhaps frame pointer.

        None if none is found, or stacks of this machine are not guessed at.
        """
        if not self._machine.guessed:
            return None
        by_pointer = self._by_frame_pointer(registers)
        reach = MAX_SCAN
        if by_pointer is not None and self._returns(by_pointer[self._machine.pc]):
            reach = by_pointer[self._machine.sp] - registers[self._machine.sp]
        outermost = None
        for found in self._candidates(registers, min(reach, MAX_SCAN)):
            self._left -= 1
            if self._left < 0:
                break
            further = self._callers(found)
            if further and self._returns(further[self._machine.pc]):
                return found
            if further == {}:
                outermost = outermost or found
        return outermost or by_pointer

    def _candidates(self, registers: Registers, size: int) -> Iterator[Registers]:
        machine = self._machine
        link = None if machine.link is None else registers.get(machine.link)
        kept = {machine.fp: registers[machine.fp]} if machine.fp in registers else {}
        sp = registers[machine.sp]
        if link is not None and self._returns(link & machine.code_mask):
            yield {**kept, machine.sp: sp, machine.pc: link & machine.code_mask}
        if sp % _WORD:
            return
        for address, word in self._words(sp, size):
            word &= machine.code_mask
            if self._returns(word):
                yield {**kept, machine.sp: address + _WORD, machine.pc: word}

    def _words(self, start: int, size: int) -> Iterator[tuple[int, int]]:
        for piece in self._space.pieces(HostAddress(start), min(size, (1 << 64) - start)):
            if piece.data is None:
                return
            whole = len(piece.data) // _WORD
            for index, word in enumerate(
                Struct(f"{self._machine.order}{whole}Q").unpack_from(piece.data)
            ):
                yield piece.address + _WORD * index, word

    def _by_frame_pointer(self, registers: Registers) -> Registers | None:
        machine = self._machine
        pointer, sp = registers.get(machine.fp, 0), registers[machine.sp]
        if pointer % _WORD or not sp <= pointer <= sp + MAX_FRAME:
            return None
        try:
            pair = Struct(self._machine.order + "2Q")
            saved, address = pair.unpack(self._space.read(HostAddress(pointer), pair.size))
        except VringcoreError:
            return None
        address &= machine.code_mask
        # Where the code is not at hand, a place in code and a rising chain must do.
        if not self._returns(address) and (
            self._behind_call(address) is False or not self._images.is_code(address)
        ):
            return None
        if saved and saved <= pointer:
            return None
        return {machine.fp: saved, machine.sp: pointer + 2 * _WORD, machine.pc: address}

    def _returns(self, address: int) -> bool:
        """Tell whether an address is known to stand behind a call, or takes a handler's return."""
        if not self._images.is_code(address):
            return False
        behind = self._behind_call(address)
        return behind is True or (behind is False and self._is_trampoline(address))

    def _behind_call(self, address: int) -> bool | None:
        """Tell whether the code before an address is a call; None where it is not at hand."""
        if address not in self._known:
            self._known[address] = self._read_call(address)
        return self._known[address]

    def _read_call(self, address: int) -> bool | None:
        x86 = self._machine.link is None
        size = _LONGEST_CALL if x86 else 4
        try:
            code = self._space.read(HostAddress(address - size), size)
        except VringcoreError:
            return None
        return _ends_in_x86_call(code) if x86 else _is_arm_call(code)


def _ends_in_x86_call(code: bytes) -> bool:
    """``call rel32``, or ``call`` through a register or memory (Intel SDM, CALL: E8, FF /2)."""
    if code[-5] == 0xE8:
        return True
    return any(
        code[-size] == 0xFF and _indirect_size(code[1 - size :] + b"\0") == size
        for size in (2, 3, 4, 6, 7)
    )


def _indirect_size(operand: bytes) -> int:
    """Return the bytes of ``FF /2`` with this ModRM and SIB, 0 if it is another instruction."""
    mode, kind, base = operand[0] >> 6, operand[0] >> 3 & 7, operand[0] & 7
    if kind != 2:
        return 0
    if mode == 3:
        return 2
    index = base == 4
    if mode == 0:
        wide = base == 5 or (index and operand[1] & 7 == 5)
        return 2 + index + 4 * wide
    return 2 + index + (1 if mode == 1 else 4)


def _is_arm_call(code: bytes) -> bool:
    """BL, BLR, BLRAA and their kin (Arm A-profile A64, "Branches")."""
    word = int.from_bytes(code, "little")
    return (
        word & 0xFC000000 == 0x94000000
        or word & 0xFFFFFC1F == 0xD63F0000
        or word & 0xFEFFF800 == 0xD63F0800
    )
