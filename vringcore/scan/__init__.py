"""Many cores: finding them, reading each in a worker, one durable row for each.

The package itself can be called: ``vringcore.scan("/srv/cores")`` is
:func:`vringcore.scan.scanner.scan`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vringcore.scan.scanner import Scan


class _Callable(ModuleType):
    """The module of a package whose name is also its one function's."""

    def __call__(self, *paths: str, **settings: Any) -> Scan:
        from vringcore.scan.scanner import scan

        return scan(*paths, **settings)


sys.modules[__name__].__class__ = _Callable
