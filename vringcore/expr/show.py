"""C values as gdb 13 prints them with its defaults, ``$N = `` left out.

Limits are gdb's: 200 elements of each array and characters of each string, runs of more than 10
equal elements as ``<repeats N times>``, 20 levels of structures. Where the core lacks the memory
of a member, that member says so and the others are shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress, end_of
from vringcore.errors import (
    AddressOverflowError,
    CorruptDataError,
    LayoutMissingError,
    LimitError,
    MemoryFault,
)
from vringcore.expr.show_scalar import Scalars, bit_field, check_format, is_signed
from vringcore.expr.show_text import Kind, Limits, string
from vringcore.expr.typename import below_typedefs, spelled, unqualified
from vringcore.layout.types import (
    Array,
    Base,
    Enum,
    Function,
    Named,
    Pointer,
    Record,
    Typedef,
    Void,
)
from vringcore.memory.gaps import GapKind

if TYPE_CHECKING:
    from vringcore.expr.cvalue import CValue
    from vringcore.layout.types import Type
    from vringcore.memory.gaps import Gap
    from vringcore.view.views import Symbols

MAX_DEPTH = 20
MAX_OBJECT_SIZE = 1 << 24
MAX_PARTS = 1 << 20
"""Members and elements that are written before the rest is refused."""

_UNNAMED_LEVELS = 60
"""Unnamed structs and unions do not count as levels; a type nested in them for ever must end."""


def show(
    value: CValue,
    *,
    format: str = "",  # noqa: A002 - gdb's word
    elements: int = 200,
    repeats: int = 10,
    max_depth: int = MAX_DEPTH,
    utf8: bool = True,
    symbols: Symbols | None = None,
) -> str:
    """Return a value as gdb's ``print`` writes it.

    :param format: one of gdb's letters (:data:`~.show_scalar.FORMATS`), "" for the type's own form
    :param elements: of an array, and characters of a string, that are shown
    :param repeats: equal elements or characters in a row that are still written one by one
    :param max_depth: levels of structures and arrays
    :param utf8: show text beyond ASCII as such; False escapes every byte of it
    :param symbols: names for addresses; None takes those of the value's process
    :raises MemoryFault: if nothing of it can be read
    :raises LayoutMissingError: if its type is not known
    :raises UsageError: if there is no such format, or it does not fit the type
    :raises CorruptDataError, LimitError: if it is too large to be shown
    """
    letter = check_format(format)
    names = value.views.symbols if symbols is None else symbols
    return _Show(value, letter, Limits(elements, repeats, utf8), max_depth, names).text()


class _Show:
    def __init__(
        self, value: CValue, letter: str, limits: Limits, max_depth: int, symbols: Symbols
    ) -> None:
        views = value.views
        self._symbols = symbols
        self._views = views
        self._layouts = views.layouts
        self._value = value
        self._letter = "" if letter == "s" else letter
        self._limits = limits
        self._max_depth = max_depth
        self._order = "big" if self._layouts.big_endian else "little"
        machine = self._layouts.bundle.machine
        self._scalars = Scalars(self._order, machine, limits, self._symbol)
        self._data = b""
        self._base: int | None = value.address
        self._holes: list[Gap] = []
        self._parts = MAX_PARTS
        self._kinds: dict[str, Kind | None] = {}
        self._resolved: dict[str, Type] = {}

    def text(self) -> str:
        value = self._value
        try:
            core = self._resolve(value.type)
        except LayoutMissingError:
            named = below_typedefs(self._layouts, value.type)[1]
            if isinstance(named, Named) and named.key in self._layouts.bundle.searched_absent:
                return "<incomplete type>"
            raise
        if isinstance(core, Function):
            return self._function(core)
        if isinstance(core, Void):
            return "void"
        self._read(core)
        if value.bits is not None:
            return self._leaf(value.type, core, 0, value.bits)
        text = self._object(value.type, 0, 0, 0)
        if isinstance(core, Pointer) and not self._letter and not _is_char_pointer(value.type):
            return f"({spelled(self._layouts, value.type)}) {text}"
        return text

    def _function(self, core: Function) -> str:
        address = int(self._base or 0)
        if self._letter:
            # gdb takes a function for an object of one byte.
            first = self._views.space.read(HostAddress(address), 1)[0]
            return self._scalars.formatted(Base("", 1, "signed"), first, 1, self._letter)
        return f"{{{spelled(self._layouts, core)}}} {address:#x}{self._symbol(address)}"

    # Memory

    def _read(self, core: Type) -> None:
        """Read the whole object; of an aggregate, what is there of it."""
        value = self._value
        if isinstance(core, Array | Record) and value.size > MAX_OBJECT_SIZE:
            raise CorruptDataError("an object too large to show", seen=f"{value.size} bytes")
        try:
            self._data = value.data()
        except MemoryFault:
            if not isinstance(core, Array | Record) or value.address is None:
                raise
            if not self._read_in_part(value.address, value.size):
                raise

    def _read_in_part(self, address: HostAddress, size: int) -> bool:
        """Read what is there of an object; tell whether anything is."""
        end_of(address, size)
        data = bytearray(size)
        found = False
        for piece in self._views.space.pieces(address, size):
            if piece.data is not None:
                at = piece.address - address
                data[at : at + piece.size] = piece.data
                found = True
            elif piece.gap is not None:
                self._holes.append(_clipped(piece.gap, piece.address, piece.size))
        self._data = bytes(data)
        return found

    def _missing(self, offset: int, size: int) -> str:
        """Return why a part is not there, "" if it is."""
        first = int(self._base or 0) + offset
        for hole in self._holes:
            if hole.address < first + size and first < hole.address + hole.size:
                return _unreadable(max(first, hole.address), hole)
        return ""

    # Objects

    def _object(self, type_: Type, offset: int, depth: int, unnamed: int) -> str:
        """Return what lies at ``offset``, ``depth`` levels down."""
        self._parts -= 1
        if self._parts < 0:
            raise LimitError("an object of too many parts", expected=f"at most {MAX_PARTS}")
        core = self._resolve(type_)
        if isinstance(core, Record):
            if depth >= self._max_depth or unnamed > _UNNAMED_LEVELS:
                return "{...}"
            return self._record(core, offset, depth, unnamed)
        if isinstance(core, Array):
            return "{...}" if depth >= self._max_depth else self._array(core, offset, depth)
        return self._leaf(type_, core, offset, None)

    def _record(self, record: Record, offset: int, depth: int, unnamed: int) -> str:
        words = []
        for member in record.members:
            at = offset + member.offset
            if member.bit_size is not None:
                core = self._resolve(member.type)
                text = self._leaf(member.type, core, at, (member.bit_size, member.bit_offset))
            elif member.name is None:
                # An unnamed member's own members count as its parent's.
                text = self._object(member.type, at, depth, unnamed + 1)
            else:
                text = self._object(member.type, at, depth + 1, unnamed)
            words.append(text if member.name is None else f"{member.name} = {text}")
        return f"{{{', '.join(words) or '<No data fields>'}}}"

    def _array(self, array: Array, offset: int, depth: int) -> str:
        count = array.count or 0
        size = self._layouts.size_of(array.of)
        kind = self._kind(array.of)
        if not count or not size:
            return self._pointer_text(int(self._base or 0) + offset, kind)
        if kind is not None and not self._letter:
            missing = self._holes and self._missing(offset, count * size)
            if not missing:
                data = self._data[offset : offset + count * size]
                return string(data, kind, self._order, self._limits)
        return f"{{{self._elements(array, count, size, offset, depth)}}}"

    def _elements(self, array: Array, count: int, size: int, offset: int, depth: int) -> str:
        words = []
        index = shown = 0
        while index < count and shown < self._limits.elements:
            at = offset + index * size
            run = self._run(at, size, count - index)
            text = self._object(array.of, at, depth + 1, 0)
            if run > self._limits.repeats:
                text += f" <repeats {run} times>"
                index += run
                shown += self._limits.repeats
            else:
                index += 1
                shown += 1
            words.append(text)
        return ", ".join(words) + ("..." if index < count else "")

    def _run(self, at: int, size: int, most: int) -> int:
        """Return how many elements from ``at`` on are the same."""
        data = self._data
        first = data[at : at + size]
        hole = bool(self._holes) and bool(self._missing(at, size))
        run = 1
        while run < most:
            other = at + run * size
            if data[other : other + size] != first:
                break
            if self._holes and bool(self._missing(other, size)) != hole:
                break
            run += 1
        return run

    # Scalars

    def _leaf(self, type_: Type, core: Type, offset: int, bits: tuple[int, int] | None) -> str:
        if isinstance(core, Void | Function):
            return "void"
        size = self._layouts.size_of(core)
        length = size if bits is None else (sum(bits) + 7) // 8
        if self._holes:
            missing = self._missing(offset, length)
            if missing:
                return missing
        word = self._data[offset : offset + length]
        if bits is None:
            raw = int.from_bytes(word, self._order)  # type: ignore[arg-type]
        else:
            raw = bit_field(word, bits, self._order, signed=is_signed(core), size=size)
        if self._letter:
            return self._scalars.formatted(core, raw, size, self._letter)
        if isinstance(core, Pointer):
            return self._pointer_text(raw, self._kind(core.to))
        assert isinstance(core, Base | Enum)
        return self._scalars.natural(core, raw, self._kind(type_))

    def _pointer_text(self, address: int, kind: Kind | None) -> str:
        text = f"{address:#x}{self._symbol(address)}"
        if kind is not None and address and not self._letter:
            text += " " + self._string_at(address, kind)
        return text

    def _string_at(self, address: int, kind: Kind) -> str:
        """Return the string at an address, and the error that ended it if one did."""
        width = kind.width
        most = width * self._limits.elements
        data = b""
        error = ""
        try:
            # One more character than is shown tells whether the string goes on.
            for piece in self._views.space.pieces(HostAddress(address), most + width):
                if piece.data is None:
                    error = _unreadable(address, piece.gap) if len(data) < most else ""
                    break
                data += piece.data
        except AddressOverflowError:
            error = _unreadable(address, None)
        data = data[: len(data) - len(data) % width]
        end = _terminator(data, width)
        if end >= 0:
            data, error = data[:end], ""
        cut = len(data) > most and any(data[most:])
        data = data[:most]
        text = string(data, kind, self._order, self._limits, cut=cut) if data else ""
        return text + error

    def _symbol(self, address: int) -> str:
        found = self._symbols.lookup(address) if address else None
        if found is None:
            return ""
        name, offset = found
        return f" <{name}+{offset}>" if offset else f" <{name}>"

    # Types

    def _resolve(self, type_: Type) -> Type:
        if isinstance(type_, Named):
            key = type_.key
            known = self._resolved.get(key)
            if known is None:
                known = self._resolved[key] = self._layouts.resolve(type_)
            return known
        return self._layouts.resolve(type_)

    def _kind(self, type_: Type) -> Kind | None:
        """Return what character a type is, None if none; structs are not looked up for it."""
        core = unqualified(type_)[1]
        if isinstance(core, Named):
            if core.kind != "typedef":
                return None
            if core.name not in self._kinds:
                self._kinds[core.name] = self._typedef_kind(core)
            return self._kinds[core.name]
        return _base_kind(core)

    def _typedef_kind(self, named: Named) -> Kind | None:
        definition = self._layouts.definition(named.key)
        assert isinstance(definition, Typedef)
        prefix = _WIDE.get(named.name)
        if prefix is not None:
            return Kind(self._layouts.size_of(definition.type), prefix)
        return self._kind(definition.type)


_WIDE = {"wchar_t": "L", "char16_t": "u", "char32_t": "U"}


def _base_kind(type_: Type) -> Kind | None:
    if not isinstance(type_, Base):
        return None
    if type_.encoding == "utf":
        return Kind(type_.size, {2: "u", 4: "U"}.get(type_.size, ""))
    whole = type_.encoding in ("signed", "unsigned", "char", "signed-char", "unsigned-char")
    return Kind(1) if whole and type_.size == 1 else None


def _is_char_pointer(type_: Type) -> bool:
    """Tell whether gdb leaves out the type before the address: ``char *``, by no other name."""
    core = unqualified(type_)[1]
    target = unqualified(core.to)[1] if isinstance(core, Pointer) else None
    return isinstance(target, Base | Named) and (target.name == "char" or target.name in _WIDE)


def _terminator(data: bytes, width: int) -> int:
    """Return where a string ends, its NUL included; -1 if it does not end in ``data``."""
    if width == 1:
        end = data.find(0)
        return end + 1 if end >= 0 else -1
    for at in range(0, len(data) - width + 1, width):
        if not any(data[at : at + width]):
            return at + width
    return -1


def _unreadable(address: int, gap: Gap | None) -> str:
    """Return gdb's words, and where the process did have memory there, why we have not."""
    text = f"Cannot access memory at address {address:#x}"
    if gap is not None and gap.kind is not GapKind.UNMAPPED:
        text += f": {gap.describe()}"
    return f"<error: {text}>"


def _clipped(gap: Gap, address: int, size: int) -> Gap:
    from msgspec.structs import replace

    return replace(gap, address=address, size=size)
