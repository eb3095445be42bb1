"""The block layer as reports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vringcore.model.block import BlockState
    from vringcore.model.report import Limitation
    from vringcore.qemu.process import Process


def block_state(process: Process, limits: list[Limitation]) -> BlockState:
    """The block layer as reports show it."""
    raise NotImplementedError
