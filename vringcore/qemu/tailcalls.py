"""Frames of functions that left by a tail call, put between those of a stack."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.unwind.frames import CFI, HEURISTIC, SIGNAL, TAIL_CALL, Frame
from vringcore.unwind.registers import ARCHITECTURES, qualified
from vringcore.unwind.tailcalls import TailCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vringcore.layout.scopes import CallSite, Scope, TailCall
    from vringcore.qemu.process import Process
    from vringcore.unwind.tailcalls import Jump


class ProcessTailCalls:
    """The tail calls of one process's functions, which may lead from one module to another.

    :ivar graph: what leads where, by run-time addresses
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        machine = ARCHITECTURES.get(
            qualified(process.core.machine, big_endian=process.core.header.big_endian)
        )
        self._places: set[str] = set()
        if machine is not None:
            self._places = {machine.names[machine.sp], machine.names[machine.pc]}
        self.graph = TailCalls(self._calls_of)

    def among(
        self, frames: Sequence[Frame], scope_of: Callable[[Frame], tuple[Scope, int] | None]
    ) -> Iterator[Frame]:
        """Yield frames, innermost first, with those of functions that left between them.

        :param scope_of: gives what debug information tells of a frame's place, and the bias
        """
        for frame, caller in pairwise(frames):
            yield frame
            if caller.how != CFI or frame.how in (SIGNAL, HEURISTIC):
                continue
            found = scope_of(caller)
            if found is not None and found[0].call is not None:
                yield from self._between(frame, caller, found[0].call, found[1], scope_of(frame))
        yield from frames[-1:]

    def _between(
        self,
        frame: Frame,
        caller: Frame,
        call: CallSite,
        bias: int,
        scope: tuple[Scope, int] | None,
    ) -> Iterator[Frame]:
        try:
            running = self.start_of(frame, scope)
            called = None if running is None else self.target_of(call, bias, running)
        except VringcoreError:
            return
        if running is None or called is None:
            return
        # What the caller has in registers that calls preserve was there when it left, too.
        kept = {n: value for n, value in caller.registers.items() if n not in self._places}
        for pc in self.graph.between(called, running):
            yield Frame(pc, frame.cfa, kept, TAIL_CALL)

    def start_of(self, frame: Frame, scope: tuple[Scope, int] | None) -> int | None:
        """Return where the function of a frame begins, None if that is not known."""
        if scope is not None and scope[0].start is not None:
            return scope[0].start + scope[1]
        symbol = self._process.symbols.lookup(frame.code_address)
        return None if symbol is None else frame.code_address - symbol[1]

    def target_of(self, call: CallSite | TailCall, bias: int, running: int) -> int | None:
        """Return where the function that a call leads to begins.

        None for a call through a pointer, or into another module, other than to ``running``.
        """
        if call.address is not None:
            return call.address + bias
        if not call.name:
            return None
        symbol = self._process.symbols.lookup(running)
        if symbol == (call.name, 0):
            return running
        # Another module may have several versions of a name: which one is linked is not known.
        found = self._process.symbols.address_of(call.name, running)
        return found if found == running else None

    def _calls_of(self, function: int, last: int) -> list[Jump] | None:
        try:
            found = self._process.symbols.tail_calls_of(function)
            if found is None:
                return None
            scope, bias = found
            calls = scope.tail_calls
            return [(each.back + bias, self.target_of(each, bias, last)) for each in calls]
        except VringcoreError:
            return None
