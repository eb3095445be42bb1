"""The document of ``vringcore print``."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.values import Hex


class ValueDocument(msgspec.Struct, frozen=True):
    """``vringcore/value/1``: what one expression came to.

    ``type`` is its C type and ``text`` the answer, both as gdb writes them. ``address`` is where
    the object lies, null for a computed value. ``value`` is its contents as data; the key is
    missing where the question was about a type or an address, or the object is a function.
    """

    expression: str
    type: str
    address: Hex | None
    text: str
    value: Any | UnsetType = UNSET
    schema: str = "vringcore/value/1"
