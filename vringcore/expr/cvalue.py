"""What an expression evaluates to: a C value with its type, and its place if it has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress

if TYPE_CHECKING:
    from vringcore.layout.types import Type
    from vringcore.view.views import Views


class CValue:
    """A C object or a computed value.

    :ivar views: memory, layouts and symbols it belongs to
    :ivar type: its C type as written, typedefs and qualifiers kept
    :ivar address: where it lies; None for a computed value
    :ivar bits: size and offset in bits if it is a bit-field
    """

    __slots__ = ("_data", "address", "bits", "type", "views")

    def __init__(
        self,
        views: Views,
        type_: Type,
        *,
        address: HostAddress | None = None,
        data: bytes | None = None,
        bits: tuple[int, int] | None = None,
    ) -> None:
        self.views = views
        self.type = type_
        self.address = address
        self.bits = bits
        self._data = data

    @property
    def size(self) -> int:
        """``sizeof`` in bytes."""
        return self.views.layouts.size_of(self.type)

    def data(self) -> bytes:
        """Return the object's bytes, in the target's byte order; read once, when first asked.

        For a bit-field, the bytes that hold it.

        :raises MemoryFault: if they are not in the core
        """
        if self._data is None:
            assert self.address is not None
            size = self.size if self.bits is None else (sum(self.bits) + 7) // 8
            self._data = self.views.space.read(HostAddress(self.address), size)
        return self._data
