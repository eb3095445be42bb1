"""C values from Python: ``core.eval("mon_list").tqh_first.flags``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from vringcore.errors import CorruptDataError, ExpressionError
from vringcore.expr import places
from vringcore.expr.convert import cast
from vringcore.expr.qlists import elements_of, is_head
from vringcore.expr.scalars import is_float, is_integral, number_of
from vringcore.layout.types import Array, Base, Pointer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.expr.cvalue import CValue
    from vringcore.layout.types import Type
    from vringcore.view.views import Symbols

MAX_STRING = 1 << 20


class Value:
    """A C object or number of a core, as an expression gave it.

    Members are attributes, ``value.vring.num``, or items, ``value["type"]``, which is the way to
    those that are called like something of Python's or of this class; elements are items,
    ``value[8]``. ``.`` goes through pointers, as it does in gdb. An array iterates over its
    elements, the head of a QTAILQ, QLIST, QSIMPLEQ or QSLIST over the list's.

    Memory is read where you say so and nowhere else: by ``int()``, ``float()``, ``bool()`` and
    ``str()``, by the methods, and by going through a pointer. What is missing raises MemoryFault:
    it is never zero, false or empty. ``repr()`` reads nothing. ``==`` with a number raises
    TypeError, since it would have to read: write ``int(value) == 3``.
    """

    __slots__ = ("_symbols", "_value")

    def __init__(self, value: CValue, symbols: Symbols | None = None) -> None:
        self._value = value
        self._symbols = symbols

    # What it is; nothing is read

    @property
    def address(self) -> int | None:
        """Where the object lies; None for a number that was computed."""
        return None if self._value.address is None else int(self._value.address)

    @property
    def type(self) -> str:
        """The C type as gdb writes it."""
        from vringcore.expr.typename import spelled

        return spelled(self._value.views.layouts, self._value.type)

    @property
    def size(self) -> int:
        """``sizeof`` in bytes."""
        return self._value.size

    def __repr__(self) -> str:
        place = "" if self.address is None else f" at {self.address:#x}"
        return f"<C value of type {self.type}{place}>"

    def __dir__(self) -> list[str]:
        from vringcore.layout.types import Record

        record = self._resolved
        if isinstance(record, Pointer):
            record = self._value.views.layouts.resolve(record.to)
        names = places.member_names(self._value.views, record) if isinstance(record, Record) else []
        return [*super().__dir__(), *names]

    # The way on

    def __getattr__(self, name: str) -> Value:
        if name.startswith("__"):  # Python's own protocols ask; C's names go by item.
            raise AttributeError(name)
        try:
            return self[name]
        except ExpressionError as error:
            raise AttributeError(str(error)) from error

    def __getitem__(self, key: str | int | Value) -> Value:
        """Return a member by name or an element by index.

        :raises ExpressionError: if there is none
        :raises MemoryFault: if a pointer on the way is not in the core
        """
        if isinstance(key, str):
            return self._made(places.member(self._value, key))
        index = int(key)
        array = self._resolved
        if isinstance(array, Array) and array.count is not None and not 0 <= index < array.count:
            raise IndexError(f"index {index} of an array of {array.count}")
        return self._made(places.element(self._value, index))

    def dereference(self) -> Value:
        """Return what the pointer points to: ``*value``."""
        return self._made(places.dereference(self._value))

    def address_of(self) -> Value:
        """Return the pointer to the object: ``&value``."""
        return self._made(places.address_of(self._value))

    def cast(self, type_: str) -> Value:
        """Return the value as another C type: ``value.cast("VirtIODevice *")``.

        :raises ExpressionError: if there is no such type, or the cast makes no sense
        """
        from vringcore.expr.evaluate import type_of

        return self._made(cast(self._value, type_of(self._value.views, type_)))

    def __len__(self) -> int:
        array = self._resolved
        if not isinstance(array, Array):
            raise TypeError(f"a value of type {self.type} has no length")
        return array.count or 0

    def __iter__(self) -> Iterator[Value]:
        array = self._resolved
        if isinstance(array, Array):
            return (self[index] for index in range(array.count or 0))
        if not is_head(self._value):
            raise TypeError(f"a value of type {self.type} is neither an array nor a list")
        return self.elements()

    def elements(self, link: str = "") -> Iterator[Value]:
        """Yield the elements of the QEMU list whose head this is (``include/qemu/queue.h``).

        :param link: the member of an element that leads to the next one, such as ``next``; may be
            left out where an element has one such member only
        :raises ExpressionError: if it is no list, or the link is not clear
        :raises CorruptDataError: where the list runs into itself
        :raises LimitError: after a hundred thousand elements
        :raises MemoryFault: where a link cannot be read
        """
        return map(self._made, elements_of(self._value, link))

    # Its contents; these read

    def __int__(self) -> int:
        """Read the number, enumerator, truth value or address."""
        return int(self._number())

    def __float__(self) -> float:
        """Read the number."""
        return float(self._number())

    def __bool__(self) -> bool:
        """Read the number and tell whether it is not 0; TypeError for a struct, array or union."""
        return self._number() != 0

    def __str__(self) -> str:
        """Read the object and return what gdb prints for it."""
        return self.show()

    def show(self, format: str = "") -> str:  # noqa: A002 - gdb's word
        """Read the object and return what gdb prints for it, with one of its format letters."""
        from vringcore.expr.show import show

        return show(self._value, format=format, symbols=self._symbols)

    def string(self, limit: int = MAX_STRING) -> str:
        """Read the text of a char array, or that a ``char *`` points to, up to its NUL.

        :raises CorruptDataError: if no NUL ends it
        """
        type_, views = self._resolved, self._value.views
        if not isinstance(type_, Array | Pointer) or not self._of_chars(type_):
            raise TypeError(f"a value of type {self.type} is no text")
        if isinstance(type_, Array):
            return self._value.data().split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        address = int(self)
        if not address:
            raise CorruptDataError("no text", seen="a NULL pointer")
        return views.string(address, limit)

    def fields(self) -> Any:
        """Read the whole object as plain values: :data:`vringcore.model.values.Fields`.

        A struct is a dict under its C names, an array a list or, of char, a string; a part that is
        not in the core is Absent, and the rest is there all the same.
        """
        from vringcore.expr.answer import contents

        return contents(self._value)

    def to_json(self) -> str:
        """Read the whole object and return it as JSON, by the rules of every document."""
        from vringcore.model.values import encode

        return encode(self.fields()).decode()

    # Comparing would read

    def __eq__(self, other: object) -> bool:
        """Tell whether two values are one object, or the same computed number of one type."""
        if not isinstance(other, Value):
            raise TypeError("reading is explicit: compare int(value), float(value) or str(value)")
        mine, its = self._value, other._value
        if mine.address is not None or its.address is not None:
            return (mine.address, mine.bits, mine.type) == (its.address, its.bits, its.type)
        return mine.type == its.type and mine.data() == its.data()

    def __hash__(self) -> int:
        return hash((self._value.address, self._value.bits))

    def _refuse(self, _other: object) -> NoReturn:
        raise TypeError("reading is explicit: compute with int(value) or float(value)")

    __lt__ = __le__ = __gt__ = __ge__ = _refuse

    @property
    def _resolved(self) -> Type:
        return self._value.views.layouts.resolve(self._value.type)

    def _made(self, value: CValue) -> Value:
        return Value(value, self._symbols)

    def _number(self) -> float:
        type_ = self._resolved
        if not is_integral(type_) and not is_float(type_) and not isinstance(type_, Pointer):
            raise TypeError(f"a value of type {self.type} is no number")
        return number_of(self._value)

    def _of_chars(self, type_: Array | Pointer) -> bool:
        of = self._value.views.layouts.resolve(type_.of if isinstance(type_, Array) else type_.to)
        return isinstance(of, Base) and of.size == 1 and of.encoding != "bool"
