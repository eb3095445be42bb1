"""The document of ``vringcore layout check``."""

from __future__ import annotations

import msgspec


class LayoutCheck(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/layout-check/1``: a layout bundle held against the program it describes.

    ``types``, ``variables`` and ``symbols`` count what was compared. ``differences`` has a line
    for everything that the program has otherwise; empty: the bundle is true of it.
    """

    schema: str = "vringcore/layout-check/1"
    bundle: str
    executable: str
    build_id: str
    types: int
    variables: int
    symbols: int
    differences: tuple[str, ...]
