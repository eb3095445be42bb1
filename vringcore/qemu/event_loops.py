"""Event loops as reports show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.loops import EventLoop
    from vringcore.model.report import Limitation
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.process import Process


def event_loops(
    process: Process, devices: Sequence[RawDevice], limits: list[Limitation]
) -> tuple[EventLoop, ...]:
    """Event loops as reports show them."""
    raise NotImplementedError
