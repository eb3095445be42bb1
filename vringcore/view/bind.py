"""Binding of declared views to a build's layout: offsets once, then reads."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from vringcore.addresses import HostAddress
from vringcore.errors import LayoutMissingError, VringcoreError
from vringcore.layout.types import Base, Enum, Pointer, Record
from vringcore.view.declare import Member, View, members_of

if TYPE_CHECKING:
    from vringcore.layout.provider import Layouts
    from vringcore.memory.space import HostSpace

SNAPSHOT_LIMIT = 64 * 1024
"""A view whose members lie further apart than this is read member by member."""


class _Slot:
    __slots__ = ("kind", "offset", "size", "unpack")

    def __init__(self, kind: str, offset: int, size: int, code: str) -> None:
        self.kind = kind
        self.offset = offset
        self.size = size
        self.unpack = struct.Struct(code).unpack_from if code else None


class BoundType:
    """Where a view's members lie in one build. Shared by all cores of that build."""

    def __init__(self, view: type[View], layouts: Layouts) -> None:
        self.view = view
        self.build_id = layouts.build_id
        self.slots: dict[str, _Slot | None] = {}
        self.missing: list[str] = []
        record = layouts.resolve(layouts.definition(view.c_type, view.unit))  # type: ignore[arg-type]
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

    def _bind(self, member: Member[Any], record: Record, layouts: Layouts) -> _Slot | None:
        for path in member.paths:
            found = layouts.member(record, path)
            if found is None:
                continue
            offset, type_, _bits = found
            if member.kind == "place":
                return _Slot("place", offset, 0, "")
            resolved = layouts.resolve(type_)
            size = layouts.size_of(resolved)
            if member.kind == "text":
                return _Slot("text", offset, size, "")
            code = _code(resolved, size)
            if code is None:
                return None
            return _Slot(member.kind, offset, size, (">" if layouts.big_endian else "<") + code)
        return None

    def refuse(self, name: str) -> LayoutMissingError:
        """Return the error for a member that this build does not have."""
        return LayoutMissingError(
            f"{self.view.c_type} has no member {members_of(self.view)[name].paths[0]}",
            where=f"build-id {self.build_id or 'unknown'}",
            seen="no " + ", ".join(self.missing),
            hint="the rest of the structure is still shown in `fields`",
        )


def _code(type_: object, size: int) -> str | None:
    if isinstance(type_, Pointer):
        return "Q" if size == 8 else "I"
    if isinstance(type_, Base | Enum):
        signed = (
            type_.signed
            if isinstance(type_, Enum)
            else type_.encoding in ("signed", "char", "signed-char")
        )
        code = {1: "b", 2: "h", 4: "i", 8: "q"}.get(size)
        return code if signed or code is None else code.upper()
    return None


class Binding:
    """A bound type over one core's memory."""

    __slots__ = ("_space", "type")

    def __init__(self, type_: BoundType, space: HostSpace) -> None:
        self.type = type_
        self._space = space

    def snapshot(self, address: int) -> bytes | None:
        """Read all declared members in one go; None if they cannot all be read."""
        bound = self.type
        if not 0 < bound.span <= SNAPSHOT_LIMIT:
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
        bound = self.type
        slot = bound.slots[member.name]
        if slot is None:
            if member.required:
                raise bound.refuse(member.name)
            return None
        if slot.kind == "place":
            return HostAddress(view.address_ + slot.offset)
        data = view._data
        if data is None:
            data, at = self._space.read(HostAddress(view.address_ + slot.offset), slot.size), 0
        else:
            at = slot.offset - bound.start
        if slot.unpack is None:
            raw = data[at : at + slot.size]
            return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        value = slot.unpack(data, at)[0]
        return bool(value) if slot.kind == "boolean" else value
