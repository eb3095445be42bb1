"""The machine around the devices as reports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.machine import Machine
    from vringcore.model.report import Limitation
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.process import Process


def machine_state(
    process: Process, devices: Sequence[RawDevice], limits: list[Limitation]
) -> Machine:
    """The machine around the devices as reports show it."""
    raise NotImplementedError
