"""Binding of declared views to a build's layout: offsets once, then reads."""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any

from vringcore.addresses import HostAddress
from vringcore.errors import LayoutMissingError, VringcoreError
from vringcore.layout.access import is_float, is_signed
from vringcore.layout.types import Base, Enum, Pointer, Record
from vringcore.view.declare import Member, View, members_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.layout.access import Place
    from vringcore.layout.provider import Layouts
    from vringcore.layout.types import Type
    from vringcore.memory.space import HostSpace

SNAPSHOT_LIMIT = 64 * 1024
"""A view whose members lie further apart than this is read member by member."""


class _Slot:
    """Where one member lies and how its bytes are read.

    ``bits`` is set for a bit-field: how far its value is shifted in the ``size`` bytes, how many
    bits it has, and whether the highest is its sign. ``plain`` is ``unpack`` where that
    alone gives the value. ``at`` is where the member lies in a snapshot of its view.
    """

    __slots__ = ("at", "bits", "kind", "offset", "plain", "size", "unpack")

    def __init__(
        self,
        kind: str,
        offset: int,
        size: int,
        code: str,
        bits: tuple[int, int, bool] | None = None,
    ) -> None:
        self.kind = kind
        self.offset = offset
        self.size = size
        self.unpack = _unpacker(code) if code else None
        self.bits = bits
        self.plain = None if kind == "boolean" else self.unpack
        self.at = 0


@cache
def _unpacker(code: str) -> Callable[[bytes, int], tuple[Any, ...]]:
    return struct.Struct(code).unpack_from


class BoundType:
    """Where a view's members lie in one build. Shared by all cores of that build."""

    def __init__(self, view: type[View], layouts: Layouts) -> None:
        self.view = view
        self.build_id = layouts.build_id
        self.big_endian = layouts.big_endian
        self.slots: dict[str, _Slot | None] = {}
        self.missing: list[str] = []
        record = layouts.resolve(layouts.definition(view.c_type, view.unit))
        self.size = layouts.size_of(record)
        for name, member in members_of(view).items():
            slot = self._bind(member, record, layouts) if isinstance(record, Record) else None
            self.slots[name] = slot
            if slot is None and member.required:
                self.missing.append(member.paths[0])
        places = [s for s in self.slots.values() if s is not None and s.kind != "place"]
        self.start = min((s.offset for s in places), default=0)
        end = max((s.offset + s.size for s in places), default=0)
        self.span = end - self.start
        for each in places:
            each.at = each.offset - self.start
        self.at_once = 0 < self.span <= SNAPSHOT_LIMIT

    def _bind(self, member: Member[Any], record: Record, layouts: Layouts) -> _Slot | None:
        for path in member.paths:
            try:
                found = layouts.member(record, path)
            except LayoutMissingError:
                continue  # a struct on the way is not known: so much the less is the member
            slot = None if found is None else _slot(member.kind, found, layouts)
            if slot is not None:
                return slot
        return None

    def within(self, offset: int, size: int) -> int | None:
        """Return where the bytes at an offset lie in a snapshot, None if they lie outside."""
        at = offset - self.start
        return at if self.at_once and 0 <= at <= self.span - size else None

    def refuse(self, name: str) -> LayoutMissingError:
        """Return the error for a member that this build does not have."""
        return LayoutMissingError(
            f"{self.view.c_type} has no member {members_of(self.view)[name].paths[0]}",
            where=f"build-id {self.build_id or 'unknown'}",
            seen="no " + ", ".join(self.missing),
            hint="the structure's other members can still be read",
        )


def _slot(kind: str, found: Place, layouts: Layouts) -> _Slot | None:
    """Return how a member is read; None if it is of no type that its declaration can stand for."""
    offset, type_, bits = found
    if kind == "place":
        return _Slot(kind, offset, 0, "")
    resolved = layouts.resolve(type_)
    size = layouts.size_of(resolved)
    if kind == "text":
        return _Slot(kind, offset, size, "")
    if bits is not None:
        count, first = bits
        size = (first + count + 7) // 8
        shift = 8 * size - first - count if layouts.big_endian else first
        return _Slot(kind, offset, size, "", (shift, count, is_signed(resolved)))
    code = _code(resolved, size)
    return None if code is None else _Slot(kind, offset, size, layouts.byteorder + code)


_NUMBERS = (Base, Enum)


def _code(type_: Type, size: int) -> str | None:
    if isinstance(type_, Pointer):
        return "Q" if size == 8 else "I"
    if isinstance(type_, _NUMBERS) and not is_float(type_):
        code = {1: "b", 2: "h", 4: "i", 8: "q"}.get(size)
        return code if is_signed(type_) or code is None else code.upper()
    return None


def _bit_field(data: bytes, big_endian: bool, shift: int, count: int, signed: bool) -> int:
    value = int.from_bytes(data, "big" if big_endian else "little") >> shift & ((1 << count) - 1)
    return value - (1 << count) if signed and value >> (count - 1) else value


class Binding:
    """A bound type over one core's memory."""

    __slots__ = ("_space", "type")

    def __init__(self, type_: BoundType, space: HostSpace) -> None:
        self.type = type_
        self._space = space

    def snapshot(self, address: int) -> bytes | None:
        """Read all declared members in one go; None if they cannot all be read."""
        bound = self.type
        if not bound.at_once:
            return None
        try:
            return self._space.read(HostAddress(address + bound.start), bound.span)
        except VringcoreError:
            # Members that are there are still read one by one, when asked for.
            return None

    def get(self, view: View, member: Member[Any]) -> Any:
        """Return a member's value.

        :raises LayoutMissingError: if the build has no such member
        :raises MemoryFault: if its bytes are not there
        """
        slot = self.type.slots[member.name]
        if slot is None:
            if member.required:
                raise self.type.refuse(member.name)
            return None
        data, at = view._data, slot.at
        if slot.plain is not None and data is not None:
            return slot.plain(data, at)[0]
        if slot.kind == "place":
            return HostAddress(view.address_ + slot.offset)
        if data is None:
            data, at = self._space.read(HostAddress(view.address_ + slot.offset), slot.size), 0
        if slot.bits is not None:
            value = _bit_field(data[at : at + slot.size], self.type.big_endian, *slot.bits)
        elif slot.unpack is None:
            raw = data[at : at + slot.size]
            return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        else:
            value = slot.unpack(data, at)[0]
        return bool(value) if slot.kind == "boolean" else value
