"""Views: Python classes that declare which members of a C struct they read.

    class VirtQueue(View):
        c_type = "struct VirtQueue"
        unit = ("hw/virtio/virtio.c",)

        last_avail_idx = integer()
        handle_output = pointer()

A declaration is bound to a build's layout once (:mod:`vringcore.view.bind`); an instance then is
an address and a snapshot of the bytes its members lie in, taken in one read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from vringcore.addresses import HostAddress

if TYPE_CHECKING:
    from vringcore.view.bind import Binding

T = TypeVar("T")


class Member(Generic[T]):
    """A declared member.

    :param kind: how its bytes are read: ``integer``, ``boolean``, ``pointer``, ``place`` (the
        address of the member itself) or ``text`` (a char array)
    :param paths: its C path, newest first where QEMU renamed it; empty: the attribute's own name
    :param required: False gives None where the build has no such member
    """

    def __init__(self, kind: str, paths: tuple[str, ...], required: bool) -> None:
        self.kind = kind
        self.paths = paths
        self.required = required
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.paths = self.paths or (name,)

    @overload
    def __get__(self, view: None, owner: type) -> Member[T]: ...
    @overload
    def __get__(self, view: View, owner: type) -> T: ...
    def __get__(self, view: View | None, owner: type) -> Member[T] | T:
        if view is None:
            return self
        value: T = view._binding.get(view, self)
        return value


class View:
    """A C struct at an address. Helpers of its own end in ``_``, so C names stay free."""

    c_type: ClassVar[str] = ""
    unit: ClassVar[tuple[str, ...]] = ()

    __slots__ = ("_binding", "_data", "address_")

    def __init__(self, binding: Binding, address: HostAddress, data: bytes | None) -> None:
        self._binding = binding
        self._data = data
        self.address_ = address

    def __repr__(self) -> str:
        return f"<{self.c_type} at {self.address_:#x}>"


def members_of(view: type[View]) -> dict[str, Member[Any]]:
    """Return the declared members of a view class, inherited ones included."""
    found: dict[str, Member[Any]] = {}
    for cls in reversed(view.__mro__):
        found.update({k: v for k, v in vars(cls).items() if isinstance(v, Member)})
    return found


def integer(*paths: str) -> Member[int]:
    """Declare an integer or enum member."""
    return Member("integer", paths, True)


def boolean(*paths: str) -> Member[bool]:
    """Declare a bool member (or an integer used as one)."""
    return Member("boolean", paths, True)


def pointer(*paths: str) -> Member[HostAddress]:
    """Declare a pointer member; its value is the address it holds."""
    return Member("pointer", paths, True)


def place(*paths: str) -> Member[HostAddress]:
    """Declare an embedded struct or array; its value is the address where it lies."""
    return Member("place", paths, True)


def text(*paths: str) -> Member[str]:
    """Declare a char array member, read up to its NUL."""
    return Member("text", paths, True)


def integer_if_any(*paths: str) -> Member[int | None]:
    """Declare an integer member that not every QEMU has."""
    return Member("integer", paths, False)


def boolean_if_any(*paths: str) -> Member[bool | None]:
    """Declare a bool member that not every QEMU has."""
    return Member("boolean", paths, False)


def pointer_if_any(*paths: str) -> Member[HostAddress | None]:
    """Declare a pointer member that not every QEMU has."""
    return Member("pointer", paths, False)


def place_if_any(*paths: str) -> Member[HostAddress | None]:
    """Declare an embedded member that not every QEMU has."""
    return Member("place", paths, False)
