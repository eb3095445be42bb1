"""The document of ``vringcore layout check``."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class LayoutCheck(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/layout-check/1``: a layout bundle held against the program it describes.

    ``types``, ``variables`` and ``symbols`` count what was compared. ``differences`` has a line
    for everything that the program has otherwise; empty: the bundle is true of it. Of a layout
    pack ``proof`` is why its types are the program's (``text``: the same machine code;
    ``self-checks``: all that they lead to in a core fits together, and ``checks`` says how much).
    """

    schema: str = "vringcore/layout-check/1"
    bundle: str
    executable: str
    build_id: str
    types: int
    variables: int
    symbols: int
    differences: tuple[str, ...]
    proof: str | UnsetType = UNSET
    checks: int | UnsetType = UNSET
