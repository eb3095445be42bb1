"""Locks as reports show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vringcore.model.locks import Lock
    from vringcore.model.report import Limitation
    from vringcore.qemu.process import Process


def lock_models(process: Process, limits: list[Limitation]) -> tuple[Lock, ...]:
    """Locks as reports show them."""
    raise NotImplementedError
