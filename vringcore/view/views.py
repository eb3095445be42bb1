"""The typed view of one process: memory, layouts and symbols together."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError, LayoutMissingError, MemoryFault
from vringcore.layout.types import Record
from vringcore.model.values import Address, Pointer
from vringcore.view.bind import Binding, BoundType
from vringcore.view.declare import View
from vringcore.view.lists import MAX_ELEMENTS, walk
from vringcore.view.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from vringcore.layout.provider import Layouts
    from vringcore.layout.types import Type, Variable
    from vringcore.memory.space import HostSpace

    class Symbols(Protocol):
        """Names for addresses of the process."""

        def lookup(self, address: int) -> tuple[str, int] | None:
            """Return the symbol whose size covers the address, and the offset into it."""
            ...


V = TypeVar("V", bound=View)

MAX_STRING = 64 * 1024


class Views:
    """QEMU's structures in one core.

    :param space: the process's memory
    :param layouts: types and variables of the executable
    :param bias: load bias of the executable (run-time minus link-time address)
    :param symbols: names for addresses in all modules
    :ivar thread_block: tells where the chosen thread has the executable's thread-local variables
    """

    def __init__(self, space: HostSpace, layouts: Layouts, bias: int, symbols: Symbols) -> None:
        self.space = space
        self.layouts = layouts
        self.bias = bias
        self.symbols = symbols
        self.thread_block: Callable[[], HostAddress | None] = lambda: None
        self._bindings: dict[type[View], Binding] = {}
        prefix = ">" if layouts.big_endian else "<"
        self.pointer_size = layouts.pointer_size
        self._pointer = struct.Struct(prefix + ("Q" if layouts.pointer_size == 8 else "I")).unpack

    # Structures

    def at(self, view: type[V], address: int) -> V:
        """Return the view of the structure at an address, its declared members read at once.

        :raises LayoutMissingError: if the build does not define the type at all
        """
        binding = self._bindings.get(view) or self.binding(view)
        return view(binding, HostAddress(address), binding.snapshot(address))

    def binding(self, view: type[View]) -> Binding:
        """Return the view's binding to this build, made on first use."""
        binding = self._bindings.get(view)
        if binding is None:
            bound = self.layouts.derived.get(view)
            if not isinstance(bound, BoundType):
                bound = BoundType(view, self.layouts)
                self.layouts.derived[view] = bound
            binding = self._bindings[view] = Binding(bound, self.space)
        return binding

    def offset(self, c_type: str, path: str, unit: tuple[str, ...] = ()) -> int:
        """Return the byte offset of a member.

        :param unit: files that are likely to define the type

        :raises LayoutMissingError: if the type or the member is not in this build
        """
        key = (c_type, path)
        known = self.layouts.derived.get(key)
        if isinstance(known, int):
            return known
        record = self.layouts.resolve(self.layouts.definition(c_type, unit))
        found = self.layouts.member(record, path) if isinstance(record, Record) else None
        if found is None:
            raise LayoutMissingError(
                f"{c_type} has no member {path}",
                where=f"build-id {self.layouts.build_id or 'unknown'}",
            )
        self.layouts.derived[key] = found[0]
        return found[0]

    def value(self, type_: Type, address: int) -> Value:
        """Return the typed place at an address; nothing is read yet."""
        return Value(self, type_, HostAddress(address))

    # Variables

    def address_of(self, name: str, unit: str = "", function: str = "") -> HostAddress:
        """Return the run-time address of a variable of the executable.

        :raises LayoutMissingError: if the build has no such variable
        """
        return self.place_of(self.layouts.variable(name, unit, function))

    def find_address_of(self, name: str, unit: str = "", function: str = "") -> HostAddress | None:
        """Return the run-time address of a variable, or None if the build has none."""
        variable = self.layouts.find_variable(name, unit, function)
        return None if variable is None else self.place_of(variable)

    def place_of(self, variable: Variable) -> HostAddress:
        """Return the run-time address of a variable; of a thread-local one, the chosen thread's.

        :raises LayoutMissingError: if it is not known where that thread keeps its variables
        """
        if not variable.thread_local:
            return HostAddress(variable.address + self.bias)
        block = self.thread_block()
        if block is None:
            raise LayoutMissingError(
                f"every thread has a {variable.name} of its own",
                seen="nothing tells where the first thread keeps it",
                hint="the executable is needed, and the threads' registers in the core",
            )
        return HostAddress(block + variable.address)

    # Scalars

    def pointer(self, address: int) -> HostAddress:
        """Read the pointer at an address."""
        return HostAddress(
            self._pointer(self.space.read(HostAddress(address), self.pointer_size))[0]
        )

    def integer(self, address: int, size: int, *, signed: bool = False) -> int:
        """Read an integer of ``size`` bytes."""
        data = self.space.read(HostAddress(address), size)
        return int.from_bytes(data, "big" if self.layouts.big_endian else "little", signed=signed)

    def string(self, address: int, limit: int = 4096) -> str:
        """Read a NUL-terminated string.

        :raises CorruptDataError: if there is no NUL within ``limit`` bytes
        :raises MemoryFault: if it runs into memory that is not there
        """
        return self.bytes_to_nul(address, limit).decode("utf-8", "backslashreplace")

    def bytes_to_nul(self, address: int, limit: int = 4096) -> bytes:
        """Read bytes up to a NUL, without it; errors as in :meth:`string`."""
        found = b""
        at = address
        while len(found) < limit:
            # To the end of the aligned block: a string near the end of a mapping must not fault.
            step = min(256 - at % 256, limit - len(found))
            try:
                chunk = self.space.read(HostAddress(at), step)
            except MemoryFault:
                # The string may end before the hole: a small core holds it, and no byte more.
                chunk = self._before_gap(at, step)
                if b"\0" not in chunk:
                    raise
            end = chunk.find(b"\0")
            if end >= 0:
                return found + chunk[:end]
            found += chunk
            at += step
        raise CorruptDataError(
            "a string without an end", where=f"{address:#x}", expected=f"a NUL within {limit} bytes"
        )

    def _before_gap(self, address: int, size: int) -> bytes:
        found = b""
        for piece in self.space.pieces(HostAddress(address), size):
            if piece.data is None:
                break
            found += piece.data
        return found

    def string_or_none(self, address: int, limit: int = 4096) -> str | None:
        """Read a ``char *`` that may be NULL."""
        return self.string(address, limit) if address else None

    def pointer_value(self, address: int) -> Pointer:
        """Return a pointer as the model shows it, with its symbol if it lies inside one."""
        if address:
            symbol = self.symbols.lookup(address)
            if symbol is not None:
                return Pointer(Address(address), symbol[0], symbol[1])
        return Pointer(Address(address))

    # Lists

    def elements(
        self, head: int, view: type[V], link: str, *, limit: int = MAX_ELEMENTS
    ) -> Iterator[V]:
        """Yield the elements of a QTAILQ, QLIST, QSLIST or QSIMPLEQ whose head is at ``head``.

        :param link: C path of the link member in the element, e.g. ``next``
        :raises CorruptDataError, LimitError, MemoryFault: where the walk ends early
        """
        at = self.offset(view.c_type, link, view.unit)
        within = self.binding(view).type.within(at, self.pointer_size)
        element: V | None = None

        def next_of(address: int) -> int:
            # Nearly always the link came along with the members.
            data = element._data if within is not None and element is not None else None
            if data is None or within is None:
                return self.pointer(address + at)
            following: int = self._pointer(data[within : within + self.pointer_size])[0]
            return following

        what = f"of {view.c_type} through {link}"
        for address in walk(self.pointer(head), next_of, what=what, limit=limit):
            element = self.at(view, address)
            yield element

    def readable(self, address: int, size: int = 1) -> bool:
        """Tell whether the bytes can be read."""
        try:
            self.space.read(HostAddress(address), size)
        except MemoryFault:
            return False
        return True
