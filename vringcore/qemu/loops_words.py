"""How functions, flags and events of event loops are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent, Address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vringcore.qemu.process import Process

POLL_EVENTS = {1: "in", 2: "pri", 4: "out", 8: "err", 16: "hup"}
"""Bits of ``pollfd.events`` (Linux, include/uapi/asm-generic/poll.h)."""

BH_FLAGS = {1: "pending", 2: "scheduled", 4: "deleted", 8: "oneshot", 16: "idle"}
"""Bits of ``QEMUBH.flags`` (util/async.c)."""

NO_SYMBOL = "no-symbol"
"""No symbol of the program or of a library that is at hand covers an address."""


def names_of(word: int, names: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of the bits that are on, ``bit N`` for those without one."""
    bits = (1 << number for number in range(word.bit_length()) if word >> number & 1)
    return tuple(names.get(bit) or f"bit {bit.bit_length() - 1}" for bit in bits)


def function_name(process: Process, address: int) -> str | Absent | None:
    """Return the name of a function that a member points to; None if that is NULL.

    Callbacks of drivers that were loaded as modules are found in those.
    """
    if not address:
        return None
    found = process.views.symbols.lookup(address) or process.symbols.lookup(address)
    if found is None:
        return Absent(NO_SYMBOL, Address(address), "neither the program nor its libraries name it")
    name, offset = found
    return f"{name}+{offset:#x}" if offset else name
