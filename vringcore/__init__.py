"""vringcore: what a QEMU process's virtio queues were doing, from its core dump alone.

    import vringcore

    with vringcore.open_core("core.20873") as core:
        for device in core.virtio_devices():
            for queue in device.queues:
                print(device.id, queue.index, queue.last_avail_idx, queue.used_idx, queue.in_use)

Names are loaded when first used, so that importing one module of the package costs that module.
"""

from __future__ import annotations

from vringcore.version import VERSION

TYPE_CHECKING = False  # typing itself is a tenth of a short run: whoever needs it imports it
if TYPE_CHECKING:
    from typing import Any

    from vringcore.api import Core, open_core
    from vringcore.errors import VringcoreError
    from vringcore.layout.store import LayoutStore
    from vringcore.model.values import Absent
    from vringcore.options import Options
    from vringcore.scan.scanner import scan
    from vringcore.slim.capture import capture_process
    from vringcore.slim.slim import slim_core

__version__ = VERSION

__all__ = [
    "Absent",
    "Core",
    "LayoutStore",
    "Options",
    "VringcoreError",
    "__version__",
    "capture_process",
    "open_core",
    "scan",
    "slim_core",
]

_HOMES = {
    "Absent": "vringcore.model.values",
    "Core": "vringcore.api",
    "LayoutStore": "vringcore.layout.store",
    "Options": "vringcore.options",
    "VringcoreError": "vringcore.errors",
    "capture_process": "vringcore.slim.capture",
    "open_core": "vringcore.api",
    "scan": "vringcore.scan.scanner",
    "slim_core": "vringcore.slim.slim",
}


def load_ipython_extension(shell: Any) -> None:
    """Let a notebook show devices, queues and verdicts as tables: ``%load_ext vringcore``."""
    from vringcore.report.notebook import register

    register(shell)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
