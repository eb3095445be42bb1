"""String sections: NUL-terminated strings by offset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.elf import Section


class Strings(dict[int, bytes]):
    """The strings of a section; each is cut out once.

    :raises DwarfError: for an offset outside the section, or a string without an end
    """

    __slots__ = ("_data", "_name", "_section")

    def __init__(self, section: Section | None, name: str) -> None:
        super().__init__()
        self._section = section
        self._data: bytes | None = None
        self._name = name

    @property
    def data(self) -> bytes:
        """The whole section, empty if there is none."""
        if self._data is None:
            self._data = self._section.data if self._section is not None else b""
        return self._data

    def __missing__(self, offset: int) -> bytes:
        data = self._data if self._data is not None else self.data
        end = data.find(0, offset)
        if end < 0 or offset < 0:
            raise DwarfError(
                "a string outside its section",
                where=f"{self._name}+{offset:#x}",
                expected=f"a NUL within {len(data)} bytes",
            )
        string = self[offset] = data[offset:end]
        return string

    def start_before(self, offset: int) -> int:
        """Return where the string starts that has a byte at ``offset``."""
        return self.data.rfind(0, 0, offset) + 1

    def places(self, text: bytes) -> Iterator[int]:
        """Yield where exactly ``text`` can be read, the tails of longer strings included."""
        data = self.data
        pattern = text + b"\0"
        at = data.find(pattern)
        while at >= 0:
            yield at
            at = data.find(pattern, at + 1)
