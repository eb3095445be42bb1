"""Coroutines as reports show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vringcore.model.coroutines import Coroutine
    from vringcore.model.report import Limitation
    from vringcore.qemu.process import Process


def coroutine_models(process: Process, limits: list[Limitation]) -> tuple[Coroutine, ...]:
    """Coroutines as reports show them."""
    raise NotImplementedError
