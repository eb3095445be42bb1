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
        text = repr((sorted(self.types.items()), sorted(self.variables.items()), self.symbols))
        # The remainder by a Mersenne prime: no secret is kept, and hashlib costs an import.
        return format(int.from_bytes(text.encode(), "big") % ((1 << 89) - 1), "x")
