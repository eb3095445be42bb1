"""BTF: the types of a Linux kernel, from ``vmlinux``, a module or ``/sys/kernel/btf``.

Documentation/bpf/btf.rst of the kernel. A module's BTF is split: it continues the strings and the
type numbers of its kernel's.
"""

from __future__ import annotations

from array import array
from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.debuginfo.elf import ElfFile
from vringcore.errors import LayoutError
from vringcore.layout.bundle import Bundle, Typed, put_type
from vringcore.layout.recorded import parts_of
from vringcore.layout.types import (
    Array,
    Base,
    Enum,
    Function,
    Member,
    Named,
    Pointer,
    Qualified,
    Record,
    Typedef,
    Void,
)
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import NoReturn

    from vringcore.layout.types import Definition, DefinitionKind, Encoding, Type

MAGIC = 0xEB9F

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST = range(1, 11)
RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(11, 20)

_FIXED = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}
_REPEATED = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}
_KINDS: dict[str, tuple[int, ...]] = {
    "struct": (STRUCT,),
    "union": (UNION,),
    "enum": (ENUM, ENUM64),
    "typedef": (TYPEDEF,),
}
_NAMES: dict[int, DefinitionKind] = {
    number: name  # type: ignore[misc]
    for name, numbers in _KINDS.items()
    for number in numbers
}
_QUALIFIERS = {VOLATILE: "volatile", CONST: "const", RESTRICT: "restrict"}

MAX_SIZE = 256 << 20
MAX_TYPES = 4_000_000
MAX_DEPTH = 64
"""Of types within a type that have no name of their own."""


class Btf:
    """One BTF blob.

    :param where: the file, for messages
    :param base: the kernel's, if this is a module's
    :raises LayoutError: if it is damaged, or continues another base
    """

    def __init__(
        self, data: bytes, where: str, base: Btf | None = None, pointer_size: int = 8
    ) -> None:
        self.where = where
        self.big_endian = data[:2] == MAGIC.to_bytes(2, "big")
        self.pointer_size = pointer_size
        order = ">" if self.big_endian else "<"
        if len(data) < 24 or data[:2] != MAGIC.to_bytes(2, "big" if self.big_endian else "little"):
            self._damaged("it does not begin as BTF does", data[:2].hex())
        self._three = Struct(order + "3I")
        self._word = Struct(order + "I")
        header, types, types_size, names, names_size = Struct(order + "5I").unpack_from(data, 4)
        if max(types + types_size, names + names_size) + header > len(data):
            self._damaged("its header leads out of it", f"{len(data)} bytes")
        self._types = data[header + types :][:types_size]
        self._strings = data[header + names :][:names_size]
        if base is None and self._strings[:1] != b"\0":
            self._damaged("it continues that of a kernel", "no empty string to begin with")
        self._base = base
        self._first_string = base.end_of_strings if base else 0
        self._first = base.count if base else 1
        self._places = array("I")
        self._named: dict[int, list[int]] = {}
        self._walk()

    @property
    def count(self) -> int:
        """One more than the number of the last type."""
        return self._first + len(self._places)

    @property
    def end_of_strings(self) -> int:
        """Where the strings of a blob that continues this one begin."""
        return self._first_string + len(self._strings)

    def find(self, kind: str, name: str) -> int | None:
        """Return the number of a type that is defined here or in the base, None if none is."""
        text = name.encode("utf-8", "surrogateescape") + b"\0"
        at = self._strings.find(text)
        while at >= 0:
            for number in self._named.get(at + self._first_string, ()):
                if self._head(number)[1] in _KINDS.get(kind, ()):
                    return number
            at = self._strings.find(text, at + 1)
        return self._base.find(kind, name) if self._base else None

    def names(self, kind: str) -> Iterator[str]:
        """Yield the names of all types of a kind, those of the base first.

        A kernel may have several types of one name, each of which is named here.
        """
        if self._base:
            yield from self._base.names(kind)
        for at, numbers in self._named.items():
            for number in numbers:
                if self._head(number)[1] in _KINDS.get(kind, ()):
                    yield self._string(at)

    def definition(self, number: int) -> Definition:
        """Return what a type that has a name is.

        :param number: as :meth:`find` gives it
        :raises LayoutError: if it is damaged
        """
        owner, name, kind, vlen, flag, size, body = self._open(number)
        if kind in (STRUCT, UNION):
            return owner._record(kind, name, size, vlen, flag, body, MAX_DEPTH)
        if kind in (ENUM, ENUM64):
            return owner._enum(kind, name, size, vlen, flag, body)
        return Typedef(name or "", owner._type(size, MAX_DEPTH))

    def _walk(self) -> None:
        """Note where each type lies, and which are known by a name."""
        types, places, named = self._types, self._places, self._named
        head, end, at = self._three.unpack_from, len(self._types), 0
        while at < end:
            if at + 12 > end or len(places) >= MAX_TYPES:
                self._damaged("its types do not end", f"type {self.count} at {at:#x}")
            name, info, _ = head(types, at)
            kind = info >> 24 & 0x1F
            if not 0 < kind <= ENUM64:
                self._damaged("a kind that is not known", f"{kind} of type {self.count}")
            if name and kind in _NAMES:
                named.setdefault(name, []).append(self._first + len(places))
            places.append(at)
            at += 12 + _FIXED.get(kind, 0) + _REPEATED.get(kind, 0) * (info & 0xFFFF)
        if at != end:
            self._damaged("its types end within one", f"at {at:#x} of {end:#x}")

    def _head(self, number: int) -> tuple[int, int, int, int, int]:
        """Return name's offset, kind, number of parts, flag, and size or type of an own type."""
        name, info, size = self._three.unpack_from(self._types, self._places[number - self._first])
        return name, info >> 24 & 0x1F, info & 0xFFFF, info >> 31, size

    def _open(self, number: int) -> tuple[Btf, str | None, int, int, int, int, int]:
        """Return a type: whose it is, its name, head and where what follows the head begins."""
        if number < self._first and self._base is not None:
            return self._base._open(number)
        if not self._first <= number < self.count:
            self._damaged("a type that is not there", f"{number}", f"below {self.count}")
        name, kind, vlen, flag, size = self._head(number)
        text = self._string(name) if name else None
        return self, text, kind, vlen, flag, size, self._places[number - self._first] + 12

    def _string(self, at: int) -> str:
        if at < self._first_string and self._base is not None:
            return self._base._string(at)
        start = at - self._first_string
        end = self._strings.find(b"\0", start)
        if not 0 <= start < len(self._strings) or end < 0:
            self._damaged("a name that is not there", f"{at:#x}", f"below {self.end_of_strings:#x}")
        return self._strings[start:end].decode("utf-8", "backslashreplace")

    def _type(self, number: int, depth: int) -> Type:
        if number == 0:
            return Void()
        if depth == 0:
            self._damaged("types within types without end", f"type {number}")
        owner, name, kind, vlen, flag, size, body = self._open(number)
        if name is not None and kind in _NAMES:
            return Named(_NAMES[kind], name)
        return owner._unnamed(name, kind, vlen, flag, size, body, depth - 1)

    def _unnamed(
        self, name: str | None, kind: int, vlen: int, flag: int, size: int, body: int, depth: int
    ) -> Type:
        match kind:
            case 1:  # INT
                return Base(name or "int", size, self._encoding(name, body))
            case 16:  # FLOAT
                return Base(name or "float", size, "float")
            case 3:  # ARRAY
                of, _index, count = self._three.unpack_from(self._types, body)
                return Array(self._type(of, depth), count)
            case 4 | 5:  # STRUCT, UNION
                return self._record(kind, None, size, vlen, flag, body, depth)
            case 6 | 19:  # ENUM, ENUM64
                return self._enum(kind, None, size, vlen, flag, body)
            case 7:  # FWD
                return Named("union" if flag else "struct", name or "")
        return self._derived(kind, self._type(size, depth))

    def _derived(self, kind: int, of: Type) -> Type:
        match kind:
            case 2:  # PTR
                return Pointer(of, self.pointer_size)
            case 9 | 10 | 11:  # VOLATILE, CONST, RESTRICT
                return Qualified(_QUALIFIERS[kind], of)
            case 13:  # FUNC_PROTO
                return Function(of)
        return of  # TYPE_TAG, and FUNC, which no member is of

    def _encoding(self, name: str | None, body: int) -> Encoding:
        flags = self._word.unpack_from(self._types, body)[0] >> 24
        if flags & 4:
            return "bool"
        if name in ("char", "signed char", "unsigned char"):
            return "signed-char" if flags & 1 or name == "char" else "unsigned-char"
        return "signed" if flags & 1 else "unsigned"

    def _record(
        self, kind: int, name: str | None, size: int, vlen: int, flag: int, body: int, depth: int
    ) -> Record:
        members = []
        for at in range(body, body + 12 * vlen, 12):
            label, number, offset = self._three.unpack_from(self._types, at)
            # With the flag the offset's upper byte is the size of a bit-field.
            bits, place = (offset >> 24, offset & 0xFFFFFF) if flag else (0, offset)
            type_ = self._type(number, depth)
            text = self._string(label) if label else None
            if bits or place % 8:
                members.append(Member(text, type_, place // 8, bits or None, place % 8))
            else:
                members.append(Member(text, type_, place // 8))
        return Record("struct" if kind == STRUCT else "union", name, size, tuple(members))

    def _enum(
        self, kind: int, name: str | None, size: int, vlen: int, flag: int, body: int
    ) -> Enum:
        signed = "i" if flag else "I"
        order = ">" if self.big_endian else "<"
        values: dict[str, int] = {}
        if kind == ENUM:
            row = Struct(f"{order}I{signed}")
            for at in range(body, body + 8 * vlen, 8):
                label, value = row.unpack_from(self._types, at)
                values[self._string(label)] = value
        else:
            wide = Struct(f"{order}II{signed}")
            for at in range(body, body + 12 * vlen, 12):
                label, low, high = wide.unpack_from(self._types, at)
                values[self._string(label)] = high << 32 | low
        return Enum(name, size, bool(flag), values)

    def _damaged(self, what: str, seen: str, expected: str = "") -> NoReturn:
        raise LayoutError(
            f"BTF is damaged: {what}",
            where=self.where,
            seen=seen,
            expected=expected,
            hint="a module's BTF needs that of the very kernel it was built for",
        )


def excerpt(blobs: Sequence[Btf], keys: Iterable[str]) -> Bundle:
    """Return the definitions of types, and of all that lie inside them, as a layout bundle.

    Of types that no blob defines it says that they were looked for.

    :param keys: such as ``struct vring_virtqueue``
    :raises LayoutError: if BTF is damaged
    """
    bundle = Bundle(pointer_size=blobs[0].pointer_size, big_endian=blobs[0].big_endian)
    waiting, seen = list(keys), set()
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        kind, _, name = key.partition(" ")
        for blob in blobs:
            number = blob.find(kind, name)
            if number is not None:
                found = blob.definition(number)
                put_type(bundle, key, Typed(found))
                waiting += [part.key for part in parts_of(found)]
                break
        else:
            bundle.searched_absent.append(key)
    return bundle


class RawBtf(msgspec.Struct, frozen=True):
    """The BTF of a file, as it lies in it."""

    path: str
    data: bytes
    pointer_size: int


def read_btf(path: str) -> RawBtf:
    """Return the BTF of an ELF file (section ``.BTF``), or a file that is BTF itself.

    :raises FileError: if it cannot be read
    :raises ElfFormatError, LayoutError: if it is damaged, or has none
    """
    with FileSource.open(path, what="file of the guest's types") as source:
        magic = source.pread(0, 2)
        if magic in (MAGIC.to_bytes(2, "little"), MAGIC.to_bytes(2, "big")):
            return RawBtf(path, source.pread(0, min(source.size, MAX_SIZE)), 8)
    with ElfFile.open(path, what="file of the guest's types") as file:
        section = file.section(".BTF")
        if section is None:
            raise LayoutError(
                "the file has no BTF",
                where=path,
                seen="no section .BTF",
                expected="vmlinux or a module with BTF, or a file of /sys/kernel/btf",
                hint="`pahole -J FILE` makes it from debug information",
            )
        return RawBtf(path, section.read(0, MAX_SIZE), file.header.elf_class // 8)
