"""What a reader will ask of a build, told beforehand so that it can be found in one pass."""

from __future__ import annotations

import msgspec


class Wanted(msgspec.Struct, frozen=True):
    """Types, variables and symbols, with the source files that are likely to define them.

    :param types: by key (``struct VirtQueue``), suffixes of a unit's path (``hw/virtio/virtio.c``)
    :param variables: by name, likewise
    :param symbols: names of functions or objects
    """

    types: dict[str, tuple[str, ...]] = {}
    variables: dict[str, tuple[str, ...]] = {}
    symbols: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A short name for exactly this list."""
        # Not a secret, and hashlib costs more to import than the whole list to look up.
        from zlib import crc32

        text = repr((sorted(self.types.items()), sorted(self.variables.items()), self.symbols))
        return f"{crc32(text.encode()):08x}{len(text):x}"
