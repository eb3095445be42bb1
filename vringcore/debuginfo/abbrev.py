"""Abbreviation tables, read lazily: a declaration is decoded when an entry first uses its code.

A decoded :class:`Abbrev` is a reader of entries: one :class:`struct.Struct` for each run of
attributes of fixed size. Equal declarations of different tables share one.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.leb import sleb, uleb
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from collections.abc import Callable

    Values = tuple[Any, ...]
    Reader = Callable[[bytes, int], tuple[Any, int]]

MAX_CODE = 1 << 20
MAX_ATTRIBUTES = 1 << 10

_WINDOW = 1 << 13
"""Bytes of a table that are read at first; a unit's own seldom has more."""

_FIXED = {
    dw.FORM_DATA1: "B", dw.FORM_DATA2: "H", dw.FORM_DATA4: "I", dw.FORM_DATA8: "Q",
    dw.FORM_DATA16: "16s", dw.FORM_FLAG: "B",
    dw.FORM_REF1: "B", dw.FORM_REF2: "H", dw.FORM_REF4: "I", dw.FORM_REF8: "Q",
    dw.FORM_REF_SIG8: "Q", dw.FORM_REF_SUP4: "I", dw.FORM_REF_SUP8: "Q",
    dw.FORM_STRP: "I", dw.FORM_LINE_STRP: "I", dw.FORM_STRP_SUP: "I", dw.FORM_SEC_OFFSET: "I",
    dw.FORM_GNU_REF_ALT: "I", dw.FORM_GNU_STRP_ALT: "I",
    dw.FORM_STRX1: "B", dw.FORM_STRX2: "H", dw.FORM_STRX3: "3s", dw.FORM_STRX4: "I",
    dw.FORM_ADDRX1: "B", dw.FORM_ADDRX2: "H", dw.FORM_ADDRX3: "3s", dw.FORM_ADDRX4: "I",
}  # fmt: skip

_OFFSETS = (
    dw.FORM_STRP, dw.FORM_LINE_STRP, dw.FORM_STRP_SUP, dw.FORM_SEC_OFFSET, dw.FORM_GNU_REF_ALT,
    dw.FORM_GNU_STRP_ALT,
)  # fmt: skip
"""Forms that take 8 bytes in the 64-bit format."""

_ULEB_FORMS = frozenset({
    dw.FORM_UDATA, dw.FORM_REF_UDATA, dw.FORM_STRX, dw.FORM_ADDRX, dw.FORM_LOCLISTX,
    dw.FORM_RNGLISTX, dw.FORM_GNU_ADDR_INDEX, dw.FORM_GNU_STR_INDEX,
})  # fmt: skip


class Encoding:
    """What the size and meaning of a form depends on, besides the form: one per kind of unit."""

    def __init__(self, version: int, address_size: int, offset_size: int, order: str) -> None:
        address = {1: "B", 2: "H", 4: "I", 8: "Q"}.get(address_size)
        if address is None:
            raise DwarfError(
                "a unit has an impossible address size",
                seen=str(address_size),
                expected="1, 2, 4 or 8 bytes",
            )
        self.version = version
        self.address_size = address_size
        self.order = order
        self.codes = dict(_FIXED)
        if offset_size == 8:
            self.codes.update(dict.fromkeys(_OFFSETS, "Q"))
        self.codes[dw.FORM_ADDR] = address
        # DWARF 2 gave a reference the size of an address (section 7.5.4).
        self.codes[dw.FORM_REF_ADDR] = address if version < 3 else "IQ"[offset_size == 8]
        self.sizes = {form: struct.calcsize(order + code) for form, code in self.codes.items()}
        self.abbrevs: dict[bytes, Abbrev] = {}


class Abbrev:
    """One abbreviation: the tag, whether children follow, and how to read the attributes.

    ``size`` is the bytes of all attributes if that is fixed, else -1. ``offsets`` gives, for the
    attributes before the first one of variable size, where they lie. If that first one is a block
    with its length in one byte (a function's DW_AT_frame_base), it lies at ``block_at``, and
    ``after_block`` gives where those between it and the next lie, from its end. ``steps`` is for
    walks to keep what they derive from the abbreviation.
    """

    __slots__ = (
        "_constants", "_places", "_steps", "_unpack", "after_block", "attributes", "block_at",
        "children", "forms", "offsets", "raw", "size", "steps", "tag",
    )  # fmt: skip

    def __init__(
        self, raw: bytes, tag: int, children: bool, attributes: list[tuple[int, int, int]],
        encoding: Encoding,
    ) -> None:  # fmt: skip
        self.raw = raw
        self.tag = tag
        self.children = children
        self.attributes = attributes
        self.forms: dict[int, int] = {}
        self.offsets: dict[int, int] = {}
        self.block_at = -1
        self.after_block: dict[int, int] = {}
        self.steps: dict[int, Any] = {}
        self._places: dict[int, int] = {}
        self._constants: dict[int, Any] = {}
        self._unpack: Callable[[bytes, int], Values] | None = None
        self._steps: list[tuple[struct.Struct | None, Reader]] = []
        self.size = 0
        self._compile(encoding)

    def _compile(self, encoding: Encoding) -> None:
        run = encoding.order
        count = size = 0
        steps: list[tuple[str, int]] = []
        for at, form, constant in self.attributes:
            self.forms.setdefault(at, form)
            if form == dw.FORM_IMPLICIT_CONST:
                self._constants.setdefault(at, constant)
                continue
            if form == dw.FORM_FLAG_PRESENT:
                self._constants.setdefault(at, 1)
                continue
            self._places.setdefault(at, count)
            count += 1
            code = encoding.codes.get(form)
            if not steps:
                self.offsets.setdefault(at, size)
            elif len(steps) == 1 and self.block_at >= 0:
                self.after_block.setdefault(at, size)
            if code is not None:
                run += code
                size += encoding.sizes[form]
                continue
            if not steps and form == dw.FORM_EXPRLOC:
                self.block_at = size
            size = 0
            steps.append((run, form))
            run = encoding.order
        if not steps:
            compiled = struct.Struct(run)
            self.size = compiled.size
            self._unpack = compiled.unpack_from
            return
        self.size = -1
        self._steps = [_step(codes, _reader(form, encoding)) for codes, form in steps]
        if len(run) > 1:
            self._steps.append(_step(run, _nothing))

    def read(self, data: bytes, pos: int) -> tuple[Values, int]:
        """Return the values of an entry whose attributes start at ``pos``, and where they end."""
        if self._unpack is not None:
            return self._unpack(data, pos), pos + self.size
        values: list[Any] = []
        for fixed, reader in self._steps:
            if fixed is not None:
                values += fixed.unpack_from(data, pos)
                pos += fixed.size
            if reader is not _nothing:
                value, pos = reader(data, pos)
                values.append(value)
        if pos > len(data):
            raise DwarfError("a debug information entry leaves its unit", where=f"byte {pos:#x}")
        return tuple(values), pos

    def get(self, values: Values, at: int) -> Any:
        """Return an attribute's raw value, None if the entry has no such attribute."""
        place = self._places.get(at)
        return values[place] if place is not None else self._constants.get(at)

    def place(self, at: int) -> int:
        """Return the attribute's index among the values, -1 if it is not among them."""
        return self._places.get(at, -1)


class AbbrevTable(dict[int, Abbrev]):
    """A table of ``.debug_abbrev``: code to :class:`Abbrev`. It is read as far as it is needed.

    :param read: returns as many bytes from the table's start on, fewer where the section ends
    :raises DwarfError: for a code that the table does not have, or damage before it
    """

    __slots__ = ("_data", "_encoding", "_next", "_places", "_read", "_whole")

    def __init__(self, read: Callable[[int], bytes], encoding: Encoding) -> None:
        super().__init__()
        self._read = read
        self._data = b""
        self._whole = False
        self._next = 0
        self._encoding = encoding
        self._places: dict[int, tuple[int, bytes]] = {}

    def __missing__(self, code: int) -> Abbrev:
        while True:
            try:
                if code not in self._places:
                    self._scan_to(code)
                place = self._places.get(code)
                if place is None:
                    raise DwarfError("an abbreviation code that its table lacks", seen=str(code))
                abbrev = self[code] = self._decode(*place)
            except IndexError:
                if self._whole:
                    raise
                self._read_on()
            else:
                return abbrev

    def _read_on(self) -> None:
        size = 2 * len(self._data) or _WINDOW
        self._data = self._read(size)
        self._whole = len(self._data) < size

    def _scan_to(self, wanted: int) -> None:
        """Note where declarations lie, without decoding them, until the wanted one.

        :raises IndexError: where what was read of the section ends
        """
        data, places, pos = self._data, self._places, self._next
        find = data.find
        code = -1
        while code != wanted:
            code = data[pos]
            start = pos + 1
            if code >= 0x80:
                code, start = uleb(data, pos)
            if code == 0 or code > MAX_CODE:
                break
            end = find(b"\0\0", start)
            if not self._whole and (end < 0 or end + 2 == len(data)):
                raise IndexError
            if end < 0:
                raise DwarfError("an abbreviation table without an end", where=f"byte {start:#x}")
            raw = data[start:end]
            if data[end + 2 : end + 3] == b"\0":
                # Three zeros: the table's end, or a constant 0 or a "no children" before it.
                end = start + len(self._decode(start, raw).raw)
            places.setdefault(code, (start, raw))
            pos = self._next = end + 2

    def _decode(self, start: int, prefix: bytes) -> Abbrev:
        # The bytes up to the first two zeros determine the declaration: what follows them can
        # only be the rest of its terminator.
        known = self._encoding.abbrevs.get(prefix)
        if known is None:
            known = self._encoding.abbrevs[prefix] = _decode(self._data, start, self._encoding)
        return known


def _decode(data: bytes, start: int, encoding: Encoding) -> Abbrev:
    tag, pos = uleb(data, start)
    children = data[pos] != 0
    pos += 1
    attributes: list[tuple[int, int, int]] = []
    while len(attributes) <= MAX_ATTRIBUTES:
        at, form = data[pos], data[pos + 1]
        if at | form < 0x80:  # Nearly always one byte each.
            pos += 2
        else:
            at, pos = uleb(data, pos)
            form, pos = uleb(data, pos)
        if at == 0 and form == 0:
            return Abbrev(data[start : pos - 2], tag, children, attributes, encoding)
        constant = 0
        if form == dw.FORM_IMPLICIT_CONST:
            constant, pos = sleb(data, pos)
        attributes.append((at, form, constant))
    raise DwarfError(
        "an abbreviation with too many attributes",
        where=f"byte {start:#x} of .debug_abbrev",
        expected=f"at most {MAX_ATTRIBUTES}",
    )


def _step(codes: str, reader: Reader) -> tuple[struct.Struct | None, Reader]:
    return (struct.Struct(codes) if len(codes) > 1 else None), reader


def _nothing(_data: bytes, pos: int) -> tuple[Any, int]:
    return None, pos


def _string(data: bytes, pos: int) -> tuple[Any, int]:
    end = data.index(0, pos)
    return data[pos:end], end + 1


def _block(data: bytes, pos: int) -> tuple[Any, int]:
    size, pos = uleb(data, pos)
    return data[pos : pos + size], pos + size


def _sized_block(codes: str) -> Reader:
    layout = struct.Struct(codes)

    def block(data: bytes, pos: int) -> tuple[Any, int]:
        pos += layout.size
        size = layout.unpack_from(data, pos - layout.size)[0]
        return data[pos : pos + size], pos + size

    return block


def _reader(form: int, encoding: Encoding) -> Reader:
    if form == dw.FORM_STRING:
        return _string
    if form in (dw.FORM_EXPRLOC, dw.FORM_BLOCK):
        return _block
    if form in _ULEB_FORMS:
        return uleb
    if form == dw.FORM_SDATA:
        return sleb
    sizes = {dw.FORM_BLOCK1: "B", dw.FORM_BLOCK2: "H", dw.FORM_BLOCK4: "I"}
    if form in sizes:
        return _sized_block(encoding.order + sizes[form])
    raise DwarfError(
        "an attribute in a form that is not known",
        seen=f"form {form:#x}",
        expected="a form of DWARF 2 to 5 or of GNU",
    )
