"""How much memory malloc() gave for an object: glibc notes it before the object.

``struct malloc_chunk`` (malloc/malloc.c): the word before what malloc() returned is the chunk's
size, its lowest bits are flags; a chunk may run on over the first word of the next one. Larger
objects are mapped in pages of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError

if TYPE_CHECKING:
    from vringcore.view.views import Views

_FLAGS, _MAPPED = 7, 2
_PAGE = 1 << 16
"""The largest page that a mapping is rounded up to."""


class Heap:
    """What glibc notes of its chunks in one process."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def fits(self, address: int, size: int) -> bool | None:
        """Tell whether an object of a size was allocated at an address; None if nothing tells.

        Nothing does if the word there can be no chunk's size: of another allocator, or of an
        object that is part of a larger one.
        """
        word = self._views.pointer_size
        if address % (2 * word):
            return None
        try:
            noted = int(self._views.pointer(address - word))
        except VringcoreError:
            return None
        chunk, flags = noted & ~_FLAGS, noted & _FLAGS
        if chunk % (2 * word) or chunk < 4 * word or flags & 4 or chunk > 1 << 40:
            return None
        if flags & _MAPPED:
            return 2 * word <= chunk - size < 2 * word + _PAGE
        # The smallest chunk that holds it: a remainder too small for a chunk stays with it.
        return word <= chunk - size < 6 * word or chunk == 4 * word >= size
