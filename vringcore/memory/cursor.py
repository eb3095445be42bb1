"""Bytes read front to back, checked at every step, that know where they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.errors import CoreFormatError, VringcoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from struct import Struct


class Cursor:
    """A place in some bytes. Every taking is checked first, and an error names file and place.

    :param what: what the bytes are, for messages: "NT_FILE of core.1"
    :param base: the file offset of the first byte
    :param error: the class to raise
    """

    __slots__ = ("_data", "base", "error", "place", "what")

    def __init__(
        self,
        data: bytes,
        what: str,
        *,
        base: int = 0,
        error: type[VringcoreError] = CoreFormatError,
    ) -> None:
        self._data = data
        self.what = what
        self.base = base
        self.error = error
        self.place = 0

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return len(self._data) - self.place

    def take(self, layout: Struct, what: str) -> tuple[Any, ...]:
        """Return one record of ``layout``; ``what`` names it in the error."""
        place = self._advance(layout.size, what)
        return layout.unpack_from(self._data, place)

    def take_rows(self, layout: Struct, count: int, what: str) -> Iterator[tuple[Any, ...]]:
        """Return ``count`` records; the count is checked against what is left, then used."""
        place = self._advance(count * layout.size, f"{count} {what}")
        return layout.iter_unpack(memoryview(self._data)[place : self.place])

    def take_bytes(self, size: int, what: str) -> bytes:
        """Return ``size`` bytes."""
        place = self._advance(size, what)
        return self._data[place : self.place]

    def take_strings(self, limit: int) -> list[bytes]:
        """Return up to ``limit`` NUL-terminated strings; fewer if the bytes end first."""
        strings = self._data[self.place :].split(b"\0", limit)
        # What follows the last NUL is no string.
        self.place = len(self._data) - len(strings.pop())
        return strings

    def _advance(self, size: int, what: str) -> int:
        place = self.place
        if size > self.left:
            raise self.error(
                f"{self.what} is too short",
                where=f"file offset {self.base + place:#x}",
                seen=f"{self.left} bytes left",
                expected=f"{size} for {what}",
            )
        self.place = place + size
        return place
