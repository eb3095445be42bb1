"""A typed place in memory, read only when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.addresses import HostAddress, end_of
from vringcore.errors import CorruptDataError, LayoutMissingError, MemoryFault
from vringcore.layout.access import is_signed
from vringcore.layout.types import Array, Base, Enum, Pointer, Record, Type
from vringcore.model.values import Absent, Address
from vringcore.view.decode import MAX_OBJECT_SIZE, Decoders

if TYPE_CHECKING:
    from vringcore.model.values import Pointer as PointerValue
    from vringcore.view.views import Views


class Value:
    """A C object: a type and an address. No operator reads memory behind the caller's back."""

    __slots__ = ("_views", "address", "type")

    def __init__(self, views: Views, type_: Type, address: HostAddress) -> None:
        self._views = views
        self.type = type_
        self.address = address

    def __repr__(self) -> str:
        return f"<Value at {self.address:#x}>"

    @property
    def size(self) -> int:
        """Size of the object in bytes."""
        return self._views.layouts.size_of(self.type)

    def member(self, path: str) -> Value:
        """Return a member by its C path, ``vring.num``; members of unnamed unions by their name.

        :raises LayoutMissingError: if there is none
        """
        record = self._views.layouts.resolve(self.type)
        found = self._views.layouts.member(record, path) if isinstance(record, Record) else None
        if found is None:
            raise LayoutMissingError("no such member", where=path)
        return Value(self._views, found[1], HostAddress(self.address + found[0]))

    def element(self, index: int) -> Value:
        """Return an array's element.

        :raises CorruptDataError: if the index is outside the array
        """
        array = self._views.layouts.resolve(self.type)
        if not isinstance(array, Array) or not 0 <= index < (array.count or 0):
            raise CorruptDataError("no such array element", seen=str(index))
        size = self._views.layouts.size_of(array.of)
        return Value(self._views, array.of, HostAddress(self.address + index * size))

    def dereference(self) -> Value:
        """Read a pointer and return what it points to.

        :raises MemoryFault: if the pointer itself cannot be read
        """
        pointer = self._views.layouts.resolve(self.type)
        if not isinstance(pointer, Pointer):
            raise CorruptDataError("not a pointer", where=f"{self.address:#x}")
        return Value(self._views, pointer.to, self._views.pointer(self.address))

    def integer(self) -> int:
        """Read an integer, enumerator or pointer.

        :raises MemoryFault: if its bytes are not there
        """
        type_ = self._views.layouts.resolve(self.type)
        if not isinstance(type_, Base | Enum | Pointer):
            raise CorruptDataError("not a number", where=f"{self.address:#x}")
        return self._views.integer(self.address, type_.size, signed=is_signed(type_))

    def read(self) -> Any:
        """Return the whole object as plain values (:data:`vringcore.model.values.Fields`).

        A part that is not in the core comes as :class:`Absent`, the rest is there all the same.

        :raises LayoutMissingError: if a type in it is not known
        :raises CorruptDataError: if it is too large to be shown
        """
        size = self.size
        if size > MAX_OBJECT_SIZE:
            raise CorruptDataError("an object too large to show", seen=f"{size} bytes")
        try:
            data = self._views.space.read(self.address, size)
        except MemoryFault:
            return self._read_in_part(size)
        return _decoders(self._views, checked=False).of(self.type)(data, 0, _Whole(self._views))

    def _read_in_part(self, size: int) -> Any:
        end_of(self.address, size)
        data = bytearray(size)
        holes = []
        for piece in self._views.space.pieces(self.address, size):
            at = piece.address - self.address
            if piece.data is not None:
                data[at : at + piece.size] = piece.data
            elif piece.gap is not None:
                reason = piece.gap.kind.value
                holes.append((at, at + piece.size, reason, piece.gap.hint))
        around = _Part(self._views, int(self.address), holes)
        return _decoders(self._views, checked=True).of(self.type)(bytes(data), 0, around)


def _decoders(views: Views, *, checked: bool) -> Decoders:
    key = (Decoders, checked)
    decoders = views.layouts.derived.get(key)
    if not isinstance(decoders, Decoders):
        decoders = Decoders(views.layouts, checked=checked)
        views.layouts.derived[key] = decoders
    return decoders


class _Whole:
    """The surroundings of an object that is wholly there."""

    __slots__ = ("pointer_value",)

    def __init__(self, views: Views) -> None:
        self.pointer_value = views.pointer_value

    def absence(self, offset: int, size: int) -> Absent | None:  # noqa: ARG002
        return None


class _Part:
    """The surroundings of an object with holes."""

    def __init__(self, views: Views, base: int, holes: list[tuple[int, int, str, str]]) -> None:
        self._views = views
        self._base = base
        self._holes = holes

    def pointer_value(self, address: int) -> PointerValue:
        return self._views.pointer_value(address)

    def absence(self, offset: int, size: int) -> Absent | None:
        for start, end, reason, hint in self._holes:
            if start < offset + size and offset < end:
                return Absent(reason, Address(self._base + offset), hint)
        return None
