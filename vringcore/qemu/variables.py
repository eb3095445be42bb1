"""Arguments and local variables of the functions on a stack.

A value is told only if it is certain: what was in a register that the frame's callees need not keep
is lost, as is what only the caller knows where the debug information does not say what it passed,
or where that call was not the one that led here (a function called last may have jumped on).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.addresses import HostAddress
from vringcore.debuginfo.damage import ours
from vringcore.errors import LimitError, VringcoreError
from vringcore.layout.types import Base, Enum, Pointer
from vringcore.model import values
from vringcore.model.threads import Variable
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import absence_of
from vringcore.unwind.frames import CFI, HEURISTIC, OUTERMOST, TAIL_CALL
from vringcore.unwind.locations import (
    Activation,
    Located,
    Lost,
    NotReached,
    NotSupported,
    locate,
    number,
)
from vringcore.unwind.registers import ARCHITECTURES, ENDIAN, qualified
from vringcore.view.decode import Decoders

if TYPE_CHECKING:
    from vringcore.layout.scopes import Expression, Scope, ScopeVariable
    from vringcore.qemu.process import Process
    from vringcore.unwind.frames import Backtrace, Frame

OPTIMIZED_OUT = "optimized-out"
AGGREGATE = "aggregate"
NOT_REACHABLE = "not-reachable"
NOT_SUPPORTED = "not-supported"

_LOST = Absent(OPTIMIZED_OUT)
_UNSUPPORTED = Absent(NOT_SUPPORTED, None, "its place is told in a way that is not understood")

MAX_ASKED = 20_000
"""How often callers are asked what they passed, for one stack; some hundred times is usual."""

Functions = tuple[tuple[tuple[Variable, ...], tuple[Variable, ...]], ...]
"""Arguments and local variables of each function of a frame, the innermost inlined one first."""


class StackVariables:
    """The variables of one stack.

    :ivar frames: the stack's, with those of functions that left by a tail call
    """

    def __init__(self, process: Process, backtrace: Backtrace, *, all_variables: bool) -> None:
        self._process = process
        self._space = process.backtraces.space
        self._all = all_variables
        self._scopes: dict[int, tuple[Scope, int] | None] = {}
        tail_calls = process.backtraces.tail_calls
        self._tail_calls = tail_calls.graph
        self.frames = tuple(tail_calls.among(backtrace.frames, self._scope))
        guesses = [n for n, frame in enumerate(self.frames) if frame.how == HEURISTIC]
        # A guess is borne out only by what leads on from it to the beginning of the stack.
        end = guesses[-1] + 1 if guesses else 0
        self._certain_from = end if backtrace.end == OUTERMOST or not guesses else len(self.frames)
        self._certain_to = guesses[0] if guesses else len(self.frames)
        self._whole = backtrace.end == OUTERMOST
        hint = f"the caller is to tell, and the stack ends before it: {backtrace.end}"
        self._not_reached = Absent(NOT_REACHABLE, None, hint)
        header = process.core.header
        machine = ARCHITECTURES.get(qualified(process.core.machine, big_endian=header.big_endian))
        self._order = header.byteorder
        self._machine = machine
        self._asked = 0
        self._decoders = Decoders(process.views.layouts)

    def of(self, index: int) -> Functions:
        """Return the variables of a frame.

        Empty where no debug information tells of them, and of a frame that was guessed or that lies
        between guesses.
        """
        certain = index < self._certain_to or index >= self._certain_from
        found = self._scope(self.frames[index]) if certain else None
        if found is None:
            return ()
        scope, bias = found
        activation = self._activation(index, scope, bias)
        functions = []
        for function in scope.functions:
            shown = [(v.parameter, self._variable(v, activation)) for v in function.variables]
            arguments = tuple(each for is_parameter, each in shown if is_parameter)
            functions.append((arguments, tuple(each for is_p, each in shown if not is_p)))
        return tuple(functions)

    def _scope(self, frame: Frame) -> tuple[Scope, int] | None:
        address = frame.code_address
        if address not in self._scopes:
            try:
                found = self._process.symbols.scope_of(address, all_variables=self._all)
            except VringcoreError:
                found = None
            self._scopes[address] = found
        return self._scopes[address]

    def _activation(self, index: int, scope: Scope, bias: int) -> Activation:
        frame = self.frames[index]

        def entered_with(place: Expression, depth: int) -> int:
            return self._passed(index, place, depth)

        machine = self._machine
        registers = {} if machine is None else machine.numbered(frame.registers)

        def cfa() -> int:
            # What a function had on the stack was gone when it left.
            if frame.how == TAIL_CALL or (frame.cfa is None and self._whole):
                raise Lost
            if frame.cfa is None:
                raise NotReached
            return frame.cfa

        return Activation(
            registers, cfa, bias, self._space, scope.frame_base, entered_with, self._order
        )

    def _passed(self, index: int, place: Expression, depth: int) -> int:
        """Return what a frame's caller passed in a place.

        :raises Lost: if that is not known
        :raises NotReached: if the caller is not
        """
        self._asked += 1
        if self._asked > MAX_ASKED:
            raise LimitError("callers were asked too often", seen=f"{MAX_ASKED} times")
        caller = index + 1
        if caller == len(self.frames) and not self._whole:
            raise NotReached
        callee, site = self._scope(self.frames[index]), None
        if caller < len(self.frames) and self.frames[caller].how in (CFI, TAIL_CALL):
            site = self._scope(self.frames[caller])
        if callee is None or site is None or site[0].call is None:
            raise Lost
        scope, bias = site
        assert scope.call is not None
        activation = self._activation(caller, scope, bias)
        if not self._leads(scope, bias, callee, activation, depth):
            raise Lost
        for passed in scope.call.passed:
            if passed.place == place:
                return number(passed.value, activation, depth)
        raise Lost

    def _leads(
        self,
        caller: Scope,
        bias: int,
        callee: tuple[Scope, int],
        activation: Activation,
        depth: int,
    ) -> bool:
        """Tell whether a call leads to a function, not to one that went on to it by a jump."""
        call, (scope, callee_bias) = caller.call, callee
        if call is None or scope.start is None:
            return False
        start = scope.start + callee_bias
        if self._tail_calls.may_come_back(start):
            return False
        if call.address is not None:
            return call.address + bias == start
        if call.name:
            symbol = self._process.symbols.lookup(start)
            names = {scope.functions[-1].name, symbol[0] if symbol is not None else ""}
            return call.name in names
        return bool(call.target) and number(call.target, activation, depth) == start

    def _variable(self, variable: ScopeVariable, activation: Activation) -> Variable:
        try:
            value = self._value(variable, activation)
        except Lost:
            value = _LOST
        except NotReached:
            value = self._not_reached
        except NotSupported:
            value = _UNSUPPORTED
        except VringcoreError as error:
            value = absence_of(error)
        return Variable(variable.name, variable.type, value)

    @ours
    def _value(self, variable: ScopeVariable, activation: Activation) -> Any:
        size, shape = variable.size, variable.shape
        scalar = isinstance(shape, Base | Enum | Pointer) and 0 < size <= 16
        if variable.constant is not None and scalar:
            mask = (1 << (8 * size)) - 1
            found = Located(None, (variable.constant & mask).to_bytes(size, ENDIAN[self._order]))
        else:
            found = locate(variable.location, size, activation)
        if not scalar:
            address = None if found.address is None else Address(found.address)
            return Absent(AGGREGATE, address, "a structure, a union or an array")
        data = found.data
        if found.address is not None:
            data = self._space.read(HostAddress(found.address), size)
        if len(data) != size:
            raise NotSupported
        return self._decoders.of(shape)(data, 0, self)

    # What the decoders ask of an object's surroundings

    def pointer_value(self, address: int) -> values.Pointer:
        """Return a pointer as the model shows it."""
        symbol = self._process.symbols.lookup(address) if address else None
        if symbol is None:
            return values.Pointer(Address(address))
        return values.Pointer(Address(address), *symbol)

    def absence(self, offset: int, size: int) -> Absent | None:  # noqa: ARG002
        """All bytes of a value are there."""
        return None
