"""The values that model fields are made of, and how each looks in JSON."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta

from vringcore.errors import AbsentError


class Address(int):
    """An integer that people read in hexadecimal: an address, a ``hwaddr``, a feature word."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{int(self):#x}"

    __str__ = __repr__


class Wide(int):
    """An integer of more than 64 bits (``Int128``); a decimal string in JSON."""

    __slots__ = ()


Hex = Annotated[int, Meta(extra_json_schema={"type": "string", "pattern": "^0x[0-9a-f]+$"})]
"""A field that holds an :class:`Address`; a hex string in JSON."""


class Absent(msgspec.Struct, frozen=True, rename={"reason": "absent"}, omit_defaults=True):
    """A value that is not there, and why. Using it as a number, truth value or list raises.

    Comparing for equality does not: it equals nothing but the same absence.

    :param reason: a gap kind (``not-dumped``, ``truncated`` …) or ``not-in-this-build``,
        ``ring-not-set-up``, ``not-reachable`` and the like; an open set
    :param address: where it would have been, when known
    :param hint: what would make it available
    """

    reason: str
    address: Hex | None = None
    hint: str = ""

    def describe(self) -> str:
        """Return the absence in one line, for messages."""
        place = "" if self.address is None else f" at {int(self.address):#x}"
        return f"{self.reason}{place}" + (f": {self.hint}" if self.hint else "")

    def _refuse(self, *_: object) -> NoReturn:
        raise AbsentError(
            "an absent value was used as if it were there",
            seen=f"absent: {self.reason}",
            hint=self.hint or "test with isinstance(value, Absent) first",
        )

    def __format__(self, spec: str) -> str:
        """Show it in an f-string; a number's format (``:x``, ``:>8``) is use as a number."""
        return self._refuse() if spec else str(self)

    __bool__ = __int__ = __index__ = __float__ = __complex__ = _refuse
    __round__ = __trunc__ = __floor__ = __ceil__ = _refuse
    __neg__ = __pos__ = __abs__ = __invert__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _refuse
    __mod__ = __rmod__ = __divmod__ = __rdivmod__ = __pow__ = __rpow__ = _refuse
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _refuse
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _refuse
    # A table or list that could not be read is no empty one.
    __len__ = __iter__ = __getitem__ = __contains__ = _refuse


class EnumValue(msgspec.Struct, frozen=True):
    """A C enumerator: its number, and its name where the enumeration has one."""

    value: int
    name: str | None


class Pointer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pointer member. ``symbol`` is given only if the address lies inside the symbol's size."""

    address: Hex
    symbol: str | None = None
    offset: int = 0


class Flags(msgspec.Struct, frozen=True):
    """A bit set: the number and the names of the bits that are on, unknown ones as ``bit N``."""

    value: Hex
    names: tuple[str, ...]


Fields = dict[str, Any]
"""A whole C structure under its C names: what gdb prints, member for member.

Values are int, bool, float, str (char arrays), :class:`Address`, :class:`EnumValue`,
:class:`Pointer`, :class:`Absent`, and lists and dicts of these.
"""


def to_builtin(value: Any) -> Any:
    """Turn the model's own number types into JSON's; msgspec's ``enc_hook``."""
    if isinstance(value, Address):
        return f"{int(value):#x}"
    if isinstance(value, Wide):
        return str(int(value))
    raise NotImplementedError(f"no JSON form for {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=to_builtin)


def encode(document: Any) -> bytes:
    """Return a model object as one line of JSON (UTF-8), key and list order fixed."""
    try:
        return _encoder.encode(document)
    except UnicodeEncodeError:  # a file's name
        return _encoder.encode(_shown(msgspec.to_builtins(document, enc_hook=to_builtin)))


def shown(text: str) -> str:
    """Return a file's name as results can hold it: bytes that are no UTF-8 as ``\\udcNN``."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {shown(key): _shown(each) for key, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, list | tuple) else value
