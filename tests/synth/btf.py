"""Builds BTF as Documentation/bpf/btf.rst of the kernel describes it."""

from __future__ import annotations

import struct
from collections.abc import Sequence


class BtfBuilder:
    """One blob. Types are numbered as they are added, from 1 or from behind those of a base."""

    def __init__(self, base: BtfBuilder | None = None, *, order: str = "<") -> None:
        self._order = order
        self._first_string = base.end_of_strings if base else 0
        self._strings = b"" if base else b"\0"
        self._base = base
        self._types: list[bytes] = []
        self._first = base.count if base else 1

    @property
    def count(self) -> int:
        return self._first + len(self._types)

    @property
    def end_of_strings(self) -> int:
        return self._first_string + len(self._strings)

    def string(self, text: str) -> int:
        if not text:
            return 0
        at = self._first_string + len(self._strings)
        self._strings += text.encode() + b"\0"
        return at

    def add(
        self, kind: int, name: str, size: int, parts: Sequence[bytes] = (), *,
        flag: bool = False, tail: bytes = b"",
    ) -> int:  # fmt: skip
        info = flag << 31 | kind << 24 | len(parts)
        head = struct.pack(self._order + "3I", self.string(name), info, size)
        self._types.append(head + b"".join(parts) + tail)
        return self.count - 1

    def words(self, *words: int) -> bytes:
        return struct.pack(f"{self._order}{len(words)}I", *(word & 0xFFFFFFFF for word in words))

    def integer(self, name: str, size: int, flags: int = 0) -> int:
        return self.add(1, name, size, tail=self.words(flags << 24 | size * 8))

    def pointer(self, of: int) -> int:
        return self.add(2, "", of)

    def array(self, of: int, index: int, count: int) -> int:
        return self.add(3, "", 0, tail=self.words(of, index, count))

    def record(
        self, name: str, size: int, members: Sequence[tuple[str, int, int, int]], *,
        union: bool = False,
    ) -> int:  # fmt: skip
        """Add a struct or union; members are name, type, bit offset, and bits (0: none of it)."""
        flag = any(bits for *_, bits in members)
        parts = [
            self.words(self.string(label), number, bits << 24 | offset)
            for label, number, offset, bits in members
        ]
        return self.add(5 if union else 4, name, size, parts, flag=flag)

    def enumeration(self, name: str, values: dict[str, int], *, signed: bool = False) -> int:
        parts = [self.words(self.string(label), value) for label, value in values.items()]
        return self.add(6, name, 4, parts, flag=signed)

    def wide_enumeration(self, name: str, values: dict[str, int], *, signed: bool = False) -> int:
        parts = [
            self.words(self.string(label), value, value >> 32) for label, value in values.items()
        ]
        return self.add(19, name, 8, parts, flag=signed)

    def blob(self) -> bytes:
        types = b"".join(self._types)
        head = struct.pack(
            self._order + "HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types),
            len(self._strings),
        )  # fmt: skip
        return head + types + self._strings
