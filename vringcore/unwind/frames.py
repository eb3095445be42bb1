"""Backtraces: the frames of a stack, innermost first, and why they end.

A frame's caller is found by call frame information where there is any; else by a signal
trampoline's saved registers; else by a guess (:mod:`vringcore.unwind.guess`), which is marked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import DwarfError, LimitError, MemoryFault, VringcoreError
from vringcore.unwind.cfi import How, row_at
from vringcore.unwind.guess import Guesser
from vringcore.unwind.images import Images
from vringcore.unwind.registers import ARCHITECTURES
from vringcore.unwind.signals import interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vringcore.elfcore.modules import Module
    from vringcore.memory.space import HostSpace
    from vringcore.unwind.cfi import Row
    from vringcore.unwind.ehframe import FunctionEntry
    from vringcore.unwind.generated import GeneratedCode
    from vringcore.unwind.registers import Architecture

MAX_FRAMES = 512

MAX_INSTRUCTIONS = 4 << 20
"""Bytes of call frame instructions that are done for one process: thousands of functions' are."""

REGISTERS = "registers"
SAVED = "saved"
CFI = "cfi"
SIGNAL = "signal"
TAIL_CALL = "tail-call"
HEURISTIC = "heuristic"

OUTERMOST = "outermost"
LIMIT = "limit"
LOOP = "loop"
NOT_CODE = "not-code"
NOT_RISING = "stack-not-rising"
UNREADABLE = "stack-not-readable"
NO_UNWIND_INFORMATION = "no-unwind-information"
UNKNOWN_MACHINE = "unknown-machine"


class Frame(msgspec.Struct, frozen=True):
    """One activation of a function, inlined ones not counted.

    :param pc: where it goes on when what it called returns
    :param cfa: the stack pointer before it was called; None where that is not known
    :param registers: those whose value is known, by name
    :param how: how it was found: ``registers`` (the innermost), ``saved`` (the innermost of what
        setjmp() left), ``cfi``, ``signal`` (it was interrupted by one), ``heuristic`` (a guess) or
        ``tail-call``: it had left by a jump, which ends at ``pc``, before the frame below began
    :param trampoline: it is entered by a return, at its first instruction: where a signal handler
        returns to, or the function of a context made by makecontext()
    """

    pc: int
    cfa: int | None
    registers: dict[str, int]
    how: str
    trampoline: bool = False

    @property
    def code_address(self) -> int:
        """An address inside the instruction that it was in.

        A return address may be the first byte of the next line, or of the next function.
        """
        return self.pc if self.how in (REGISTERS, SIGNAL) or self.trampoline else self.pc - 1


class Backtrace(msgspec.Struct, frozen=True):
    """The frames of a stack, innermost first.

    :param end: why there are no more: ``outermost`` if that is all, else what stood in the way
    :param detail: of that, in words
    """

    frames: tuple[Frame, ...]
    end: str
    detail: str = ""


class _End(Exception):  # noqa: N818 - how the walk ends, which is no error
    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class _Step(msgspec.Struct):
    """A frame's own address and its caller's registers; None where there is no caller."""

    cfa: int | None
    caller: dict[int, int] | None
    how: str
    trampoline: bool = False


class Unwinder:
    """Finds the frames of stacks of one process.

    What it reads is what it needs, so that a memory that records reads knows what a small core must
    hold.

    :param space: the process's memory, mapped files beneath it
    :param modules: the files it had mapped, the vDSO among them
    :param machine: a name of :data:`~vringcore.unwind.registers.ARCHITECTURES`; of others no frame
        is known
    :param code_mask: bits of a signed return address that are address, where the core tells
    :param generated: gives what is known of code that lies in no file; asked when a stack leads
        to such code
    """

    def __init__(
        self,
        space: HostSpace,
        modules: Iterable[Module],
        machine: str,
        code_mask: int | None = None,
        generated: Callable[[], Iterable[GeneratedCode]] = tuple,
    ) -> None:
        self._space = space
        self._name = machine
        self._machine = ARCHITECTURES.get(machine)
        if self._machine is not None and code_mask is not None:
            self._machine = msgspec.structs.replace(self._machine, code_mask=code_mask)
        order = "<" if self._machine is None else self._machine.order
        self._images = Images(space, modules, order)
        self._images.generated = generated
        self._told = code_mask is not None
        self._stripped = False
        self._rows = _Rows(self._images)

    @property
    def assumed(self) -> bool:
        """Whether signatures were taken from return addresses by rule: the core did not tell how.

        The rule is that addresses of programs have 48 bits.
        """
        return self._stripped and not self._told

    def backtrace(self, registers: Mapping[str, int], *, saved: bool = False) -> Backtrace:
        """Return the frames from registers by name, as NT_PRSTATUS names them.

        :param saved: they are what setjmp() or a switch of stacks saved: the program counter is a
            return address
        """
        architecture = self._machine
        if architecture is None:
            return Backtrace((), UNKNOWN_MACHINE, f"stacks of {self._name} cannot be unwound")
        walk = _Walk(self._space, self._images, self._rows, architecture)
        found = walk.run(architecture.numbered(registers), SAVED if saved else REGISTERS)
        self._stripped |= walk.stripped
        return found


class _Rows:
    """The rules that hold at addresses, each found once."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._known: dict[int, tuple[FunctionEntry, Row] | None] = {}
        self._left = MAX_INSTRUCTIONS

    def at(self, address: int) -> tuple[FunctionEntry, Row] | None:
        """Return a function's entry and the rules at an address, None if there is none.

        :raises DwarfError, MemoryFault: if it is damaged, or not in memory
        :raises LimitError: after :data:`MAX_INSTRUCTIONS`
        """
        if address not in self._known:
            entry = self._images.entry_at(address)
            self._known[address] = None if entry is None else (entry, self._row(entry, address))
        return self._known[address]

    def _row(self, entry: FunctionEntry, address: int) -> Row:
        self._left -= len(entry.instructions) + len(entry.common.instructions)
        if self._left < 0:
            raise LimitError("unwinding was left off", seen=f"{MAX_INSTRUCTIONS} bytes of tables")
        return row_at(entry, address)


class _Walk:
    def __init__(
        self, space: HostSpace, images: Images, rows: _Rows, machine: Architecture
    ) -> None:
        self._space = space
        self._images = images
        self._rows = rows
        self._machine = machine
        self._guesser = Guesser(space, images, self._machine, self._callers, self._is_trampoline)
        self.stripped = False

    def run(self, registers: dict[int, int], how: str) -> Backtrace:
        """Walk up from a frame's registers."""
        machine = self._machine
        # Both are 0 in a core whose writer could not ask a running thread for its registers.
        known = machine.pc in registers and machine.sp in registers
        if not known or not (registers[machine.pc] or registers[machine.sp]):
            return Backtrace((), UNREADABLE, "the registers are not known")
        frames: list[Frame] = []
        seen: set[tuple[int, int]] = set()
        reach = 0
        while True:
            place = registers[machine.pc], registers[machine.sp]
            if place in seen or len(frames) >= MAX_FRAMES:
                reason = LOOP if place in seen else LIMIT
                return Backtrace(tuple(frames), reason, f"after {len(frames)} frames")
            seen.add(place)
            try:
                step = self._step(registers, exact=how in (REGISTERS, SIGNAL))
                self._check(step, reach, registers)
            except _End as end:
                frames.append(Frame(place[0], None, machine.named(registers), how))
                return Backtrace(tuple(frames), end.reason, end.detail)
            frames.append(Frame(place[0], step.cfa, machine.named(registers), how, step.trampoline))
            if step.caller is None:
                return Backtrace(tuple(frames), OUTERMOST)
            reach = 0 if step.trampoline else step.caller[machine.sp]
            registers, how = step.caller, step.how
            # What a signal interrupted may be a jump to nowhere.
            if how != SIGNAL and not self._images.is_code(registers[machine.pc]):
                detail = f"the return address {registers[machine.pc]:#x} is not in code"
                return Backtrace(tuple(frames), NOT_CODE, detail)

    def _check(self, step: _Step, reach: int, registers: dict[int, int]) -> None:
        """Refuse a stack that does not grow: a frame lies above those that it called."""
        if step.trampoline or step.caller is None or step.cfa is None:
            return  # A signal may have been handled on a stack of its own.
        least = max(reach, registers[self._machine.sp])
        if step.cfa < least or step.caller[self._machine.sp] <= reach:
            raise _End(NOT_RISING, f"a frame at {step.cfa:#x} below {least:#x}")

    def _step(self, registers: dict[int, int], *, exact: bool) -> _Step:
        pc = registers[self._machine.pc]
        problem = ""
        try:
            found = self._rows.at(pc if exact else pc - 1)
            if found is None or found[0].common.signal:
                step = self._interrupted(registers)
                if step is not None:
                    return step
            if found is not None:
                return self._by_row(*found, registers, exact=exact)
            if not exact and self._begins_a_stack(pc):
                return _Step(None, None, CFI, trampoline=True)
        except MemoryFault as error:
            problem = str(error)
        except VringcoreError as error:
            problem = str(error)
        return self._guess(registers, problem)

    def _begins_a_stack(self, pc: int) -> bool:
        """Tell whether a return leads to a function's start, with nothing described before it.

        No call is there to return to: makecontext() laid the address on the stack (glibc's
        __start_context; the unwind information of what it returns to is left out on purpose).
        """
        found = self._rows.at(pc)
        return found is not None and found[0].start == pc

    def _interrupted(self, registers: dict[int, int]) -> _Step | None:
        try:
            saved = interrupted(self._machine, registers, self._space)
        except VringcoreError:
            return None
        return None if saved is None else _Step(None, saved, SIGNAL, trampoline=True)

    def _by_row(
        self, entry: FunctionEntry, row: Row, registers: dict[int, int], *, exact: bool
    ) -> _Step:
        machine, column = self._machine, entry.common.return_column
        signal = entry.common.signal
        rule = row.rules.get(column)
        if rule is not None and rule[0] is How.UNDEFINED:
            return _Step(None, None, CFI, signal)
        cfa = row.cfa(registers, self._space)
        if rule is None and (column != machine.link or not exact):
            raise DwarfError("unwind information without a return address")
        try:
            address = row.value(column, cfa, registers, self._space)
        except MemoryFault as error:
            raise _End(UNREADABLE, str(error)) from error
        if not address:
            return _Step(cfa, None, CFI, signal)
        caller = {machine.sp: cfa, **self._kept(row, cfa, registers, signal=signal)}
        if not signal and machine.link is not None:
            caller.pop(machine.link, None)
        caller[machine.pc] = self._unsigned(address) if row.signed else address
        return _Step(cfa, caller, SIGNAL if signal else CFI, signal)

    def _unsigned(self, address: int) -> int:
        """Return an address without its signature (Armv8.3 PAuth)."""
        plain = address & self._machine.code_mask
        self.stripped |= plain != address
        return plain

    def _kept(
        self, row: Row, cfa: int, registers: dict[int, int], *, signal: bool
    ) -> dict[int, int]:
        """Return the caller's registers that are known: those saved, and those a call keeps."""
        kept = {}
        for number in self._machine.names if signal else {*self._machine.preserved, *row.rules}:
            try:
                value = row.value(number, cfa, registers, self._space)
            except MemoryFault:
                continue
            if value is not None and (number != self._machine.sp or number in row.rules):
                kept[number] = value
        return kept

    def _callers(self, registers: dict[int, int]) -> dict[int, int] | None:
        """Return a caller's registers by call frame information alone, for a guess to be tested.

        Empty where the frame has no caller; None where nothing tells.
        """
        try:
            found = self._rows.at(registers[self._machine.pc] - 1)
            if found is None:
                return None
            step = self._by_row(*found, registers, exact=False)
            self._check(step, 0, registers)
        except (VringcoreError, _End):
            return None
        return step.caller or {}

    def _is_trampoline(self, address: int) -> bool:
        try:
            found = self._rows.at(address - 1)
        except VringcoreError:
            return False
        return found is not None and found[0].common.signal

    def _guess(self, registers: dict[int, int], problem: str) -> _Step:
        caller = self._guesser.caller_of(registers)
        if caller is None:
            pc = registers[self._machine.pc]
            image = self._images.at(pc)
            name = image.module.path if image is not None else "no file"
            why = problem or (image.problem if image is not None else "") or "none covers it"
            raise _End(NO_UNWIND_INFORMATION, f"code at {pc:#x} of {name}: {why}")
        return _Step(None, caller, HEURISTIC)
