"""QEMU's object model (qom/object.c): types, the tree of objects, canonical paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import (
    AddressOverflowError,
    CorruptDataError,
    LimitError,
    MemoryFault,
    VringcoreError,
)
from vringcore.memory.gaps import GapKind
from vringcore.qemu.structs import DeviceState, Object, ObjectClass, ObjectProperty, TypeImpl
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.view.declare import View
    from vringcore.view.views import Views

MAX_DEPTH = 64
MAX_OBJECTS = 200_000
MAX_NAME = 256


class ObjectModel:
    """The QOM objects of one process. What is learnt about classes and parents is kept."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._ancestry: dict[int, tuple[str, ...]] = {}
        self._types: dict[int, tuple[str, ...]] = {}

    # Types

    def ancestry(self, address: int) -> tuple[str, ...]:
        """Return the type of an object and its parent types, nearest first.

        Empty if there is no QOM object: its ``class`` must lead to a ``TypeImpl`` whose own
        ``class`` leads back and whose name is printable.

        :raises MemoryFault: if the object, or what tells its type, was left out of the core
        """
        # Asked of every object: one word of it, and no view.
        class_ = self._word(Object, "class", address)
        known = self._ancestry.get(class_)
        if known is None:
            known = self._ancestry[class_] = self._read_ancestry(class_)
        return known

    def is_object(self, address: int) -> bool:
        """Tell whether a QOM object lies at an address; errors as in :meth:`ancestry`."""
        return bool(self.ancestry(address))

    def type_name(self, address: int) -> str | None:
        """Return an object's type name, None if it is no object; errors as in :meth:`ancestry`."""
        return next(iter(self.ancestry(address)), None)

    def is_a(self, address: int, type_name: str) -> bool:
        """Tell whether an object is of a type or a type derived from it; see :meth:`ancestry`."""
        return type_name in self.ancestry(address)

    # The tree

    def root(self) -> HostAddress:
        """Return the root of the object tree: the static ``root`` of ``object_get_root()``.

        :raises LayoutMissingError: if it is not known where that is
        :raises CorruptDataError: if no object lies there
        """
        variable = self._views.address_of("root", "qom/object.c", "object_get_root")
        root = self._views.pointer(variable)
        if not root or not self.is_object(root):
            raise CorruptDataError(
                "the root of the object tree is no object",
                where=f"root of object_get_root(), {variable:#x}",
                seen=f"{root:#x}",
                hint="the process may have been at its start or end",
            )
        return root

    def children(self, address: int) -> Iterator[tuple[str, HostAddress]]:
        """Yield name and address of an object's children, its properties of type ``child<…>``.

        :raises CorruptDataError, LimitError, MemoryFault: where the table of properties ends early
        """
        for view in self._properties(address):
            if self._is_child(view):
                yield self._views.string(view.name, MAX_NAME), view.opaque

    def walk(self, below: str = "/") -> Iterator[tuple[str, HostAddress]]:
        """Yield path and address of every object from ``below`` on, parents before children.

        What can be reached is yielded before the first error is raised.

        :raises LimitError: after :data:`MAX_OBJECTS` objects or below :data:`MAX_DEPTH` levels
        """
        start = self.find(below)
        pending = [] if start is None else [(below.rstrip("/"), start, 0)]
        seen: set[int] = set()
        error: VringcoreError | None = None
        while pending:
            path, address, depth = pending.pop()
            if address in seen:
                continue
            if len(seen) >= MAX_OBJECTS or depth > MAX_DEPTH:
                error = error or LimitError("the object tree was cut", where=path or "/")
                continue
            seen.add(address)
            yield path or "/", address
            children, problem = collect(self.children(address))
            error = error or problem
            pending += sorted(((f"{path}/{n}", c, depth + 1) for n, c in children), reverse=True)
        if error is not None:
            raise error

    def instances(self, type_name: str, below: str = "/") -> Iterator[HostAddress]:
        """Yield the address of every object of a type in the tree; errors as in :meth:`walk`.

        :param below: where to look: I/O threads, for one, lie below ``/objects``
        """
        problems: list[VringcoreError] = []
        for _, address in self.walk(below):
            try:
                if self.is_a(address, type_name):
                    yield address
            except VringcoreError as problem:
                problems.append(problem)
        if problems:
            raise problems[0]

    def find(self, path: str) -> HostAddress | None:
        """Return the object at a canonical path such as ``/objects/io0``, None if there is none."""
        address = self.root()
        for name in path.strip("/").split("/"):
            if not name:
                continue
            found = next((child for each, child in self.children(address) if each == name), None)
            if found is None:
                return None
            address = found
        return address

    def path(self, address: int) -> str:
        """Return an object's canonical path.

        A realized device keeps it (``DeviceState.canonical_path``); else see :meth:`climb`.
        """
        if self.is_a(address, "device"):
            kept = self._views.at(DeviceState, address).canonical_path
            if kept:
                return self._views.string(kept)
        return self.climb(address)

    def climb(self, address: int) -> str:
        """Return an object's canonical path, made by climbing from parent to parent.

        :raises CorruptDataError: if that does not end at the root
        :raises MemoryFault: if a parent is not there
        """
        root = self.root()
        names: list[str] = []
        at = address
        while at != root:
            parent = self._views.at(Object, at).parent
            name = self._name_in(parent, at) if parent else None
            if name is None or len(names) >= MAX_DEPTH:
                raise CorruptDataError(
                    "an object does not hang in the object tree",
                    where=f"{address:#x}",
                    seen=f"the parent {parent:#x} of …/{'/'.join(reversed(names))}",
                    expected="a parent that knows it as its child",
                )
            names.append(name)
            at = parent
        return "/" + "/".join(reversed(names))

    # Inside

    def _name_in(self, parent: int, child: int) -> str | None:
        for view in self._properties(parent):
            if view.opaque == child and self._is_child(view):
                return self._views.string(view.name, MAX_NAME)
        return None

    def _properties(self, address: int) -> Iterator[ObjectProperty]:
        table = self._views.at(Object, address).properties
        if table:
            from vringcore.qemu.glib import hash_table

            for _, property_ in hash_table(self._views, table):
                yield self._views.at(ObjectProperty, property_)

    def _is_child(self, view: ObjectProperty) -> bool:
        prefix = b"child<"
        return bool(view.type_) and self._views.space.read(view.type_, len(prefix)) == prefix

    def _word(self, view: type[View], member: str, address: int) -> HostAddress:
        views = self._views
        return views.pointer(address + views.offset(view.c_type, member, view.unit))

    def _read_ancestry(self, class_: int) -> tuple[str, ...]:
        try:
            view = self._views.at(TypeImpl, self._word(ObjectClass, "type", class_))
            return self._type_and_parents(view) if view.class_ == class_ else ()
        except MemoryFault as fault:
            # Classes lie on the heap: a number that leads nowhere, or into a file's pages, is no
            # class. Heap that the core lacks is another matter.
            if fault.gap.kind in (GapKind.UNMAPPED, GapKind.FILE_NEEDED):
                return ()
            raise
        except (CorruptDataError, AddressOverflowError):
            return ()

    def _type_and_parents(self, view: TypeImpl) -> tuple[str, ...]:
        """Return the names of a type and its parents; empty if one is no name."""
        names: list[str] = []
        read: list[int] = []
        while len(names) < MAX_DEPTH:
            name = self._views.string(view.name, MAX_NAME)
            if not name or not name.isprintable():
                return ()
            names.append(name)
            read.append(view.address_)
            parent = view.parent_type
            if not parent:
                break
            known = self._types.get(parent)
            if known is not None:
                names += known
                break
            view = self._views.at(TypeImpl, parent)
        for index, address in enumerate(read):
            self._types[address] = tuple(names[index:])
        return tuple(names)
