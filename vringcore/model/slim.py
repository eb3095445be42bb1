"""The document of ``vringcore slim`` and ``vringcore capture``."""

from __future__ import annotations

import msgspec

from vringcore.model.report import Limitation, Tool


class SlimPart(msgspec.Struct, frozen=True):
    """What a small core holds of one kind of memory.

    ``what`` is ``guest memory``, ``stacks``, ``structures`` (QEMU's heap and variables),
    ``program files`` (constants and unwind tables) or ``as asked``; an open set. ``bytes`` are
    spread over ``ranges`` places.
    """

    what: str
    ranges: int
    bytes: int


class SlimDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/slim-result/1``: a small core that was written, or would be.

    ``path`` is null for a plan. ``size`` is that of the file in bytes, before it was packed.
    ``original`` is the core or ``pid N``, of ``original_size`` bytes of memory. ``masked`` counts
    the places where a secret of the command line was overwritten. ``left_out`` tells in words what
    was left out on purpose. ``seconds`` is how long reading took.
    """

    schema: str = "vringcore/slim-result/1"
    tool: Tool
    path: str | None
    original: str
    original_size: int
    size: int
    parts: tuple[SlimPart, ...]
    masked: int
    left_out: tuple[str, ...]
    seconds: float
    limits: tuple[Limitation, ...] = ()
