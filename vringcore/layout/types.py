"""C types as data.

A type is a tree of small frozen structs. What a pointer points to, and what a member of struct
type is, is named (:class:`Named`), not copied: a definition is looked up when somebody needs it,
so a layout bundle can hold one struct without dragging in the rest of the program, and a struct
that one file only declares is found where another file defines it.

Sizes and offsets are in bytes, bit sizes and bit offsets in bits.

Annotations are evaluated here, and in :mod:`vringcore.layout.bundle`: those kept as strings msgspec
would have to compile one by one before it decodes the first bundle, which takes as long as the
decoding.
"""

from typing import Literal

import msgspec

Encoding = Literal[
    "signed", "unsigned", "bool", "char", "signed-char", "unsigned-char", "float", "utf", "complex"
]
RecordKind = Literal["struct", "union"]
DefinitionKind = Literal["struct", "union", "enum", "typedef"]


class _Type(msgspec.Struct, frozen=True, tag_field="t", omit_defaults=True):
    pass


class Void(_Type, frozen=True, tag="void"):
    """No type: what ``void *`` points to."""


class Base(_Type, frozen=True, tag="base"):
    """A base type: ``int``, ``unsigned char``, ``_Bool``, ``double``, ``__int128``."""

    name: str
    size: int
    encoding: Encoding


class Pointer(_Type, frozen=True, tag="ptr"):
    """A pointer."""

    to: "Type"
    size: int = 8


class Array(_Type, frozen=True, tag="array"):
    """An array; ``count`` is None for a flexible or incomplete one."""

    of: "Type"
    count: int | None


class Qualified(_Type, frozen=True, tag="qual"):
    """``const``, ``volatile``, ``restrict`` or ``_Atomic`` of a type."""

    qualifier: str
    of: "Type"


class Function(_Type, frozen=True, tag="func"):
    """A function's type."""

    returns: "Type"
    parameters: "tuple[Type, ...]" = ()
    variadic: bool = False
    prototyped: bool = True


class Named(_Type, frozen=True, tag="named"):
    """A struct, union, enum or typedef by name; its definition is looked up by :attr:`key`.

    ``unit`` is set only where another file has a different type of the same name: the source file
    whose type is meant.
    """

    kind: DefinitionKind
    name: str
    unit: str = ""

    @property
    def key(self) -> str:
        """The key of the definition: ``struct VirtQueue``, ``struct DumpState@net/dump.c``."""
        return f"{self.kind} {self.name}@{self.unit}" if self.unit else f"{self.kind} {self.name}"


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member of a struct or union.

    ``offset`` is in bytes. For a bit-field ``bit_size`` is set, and ``bit_offset`` counts from the
    least significant bit (little-endian) or the most significant bit (big-endian) of the byte at
    ``offset``; DWARF 4's and 5's ``DW_AT_data_bit_offset`` is ``offset * 8 + bit_offset``.
    ``name`` is None for an unnamed struct or union whose members belong to the parent.
    """

    name: str | None
    type: "Type"
    offset: int
    bit_size: int | None = None
    bit_offset: int = 0


class Record(_Type, frozen=True, tag="record"):
    """A struct or union. ``name`` is None for an anonymous one."""

    kind: RecordKind
    name: str | None
    size: int
    members: tuple[Member, ...]


class Enum(_Type, frozen=True, tag="enum"):
    """An enumeration. ``enumerators`` keep the order of the source."""

    name: str | None
    size: int
    signed: bool
    enumerators: dict[str, int]


Type = Void | Base | Pointer | Array | Qualified | Function | Named | Record | Enum
"""Any type. An anonymous struct, union or enum appears inline."""


class Typedef(_Type, frozen=True, tag="typedef"):
    """What a typedef name stands for."""

    name: str
    type: Type


Definition = Record | Enum | Typedef
"""What a key such as ``struct VirtQueue`` leads to."""


class Variable(msgspec.Struct, frozen=True, omit_defaults=True):
    """A variable of a module.

    ``address`` is the link-time address (add the load bias), or the offset in the module's TLS
    block when ``thread_local``. ``unit`` is the source file's name as the compile unit gives it.
    ``function`` is set for a static variable inside a function. ``type`` is None where only the
    ELF symbol table knows the variable.
    """

    name: str
    address: int
    type: Type | None = None
    size: int = 0
    unit: str = ""
    function: str = ""
    external: bool = False
    thread_local: bool = False


class Symbol(msgspec.Struct, frozen=True, omit_defaults=True):
    """An ELF symbol: link-time address and ``st_size``.

    ``address`` is the offset in the module's TLS block when ``thread_local``.
    """

    name: str
    address: int
    size: int
    thread_local: bool = False


class Code(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function with code of its own: link-time address and size of its main range, and type."""

    name: str
    address: int
    size: int
    type: Type | None = None
    unit: str = ""
    external: bool = False


class SourceFrame(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function that an address lies in, and where in its source: one level of inlining.

    ``file`` is as the compiler was given it; one that does not start at the root counts from
    ``directory``, where the compiler ran. "" and line 0 are for what is not known.
    """

    function: str
    file: str = ""
    line: int = 0
    directory: str = ""

    @property
    def path(self) -> str:
        """The file with the directory it counts from."""
        if not self.directory or self.file.startswith("/") or not self.file:
            return self.file
        return f"{self.directory}/{self.file}"
