"""Imports of the command's own process, without what a run has no use for.

msgspec asks ``uuid`` and ``decimal`` for the classes of values that it can encode, and takes from
``typing_extensions``, where that is installed, what ``typing`` has, too. argparse would translate
its own words, and its words alone. Together that is a sixth of a short run. Stand-ins are there
while msgspec and argparse are imported and no longer; what they do not have themselves they get
from the module they stand for. This process is ours: a library must not do such a thing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class StandIn(ModuleType):
    """A module with a few names of another, which is imported only for the others."""

    def __init__(self, name: str, **names: Any) -> None:
        super().__init__(name)
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        here = sys.modules.pop(self.__name__, None)
        try:
            return getattr(import_module(self.__name__), name)
        finally:
            if here is not None:
                sys.modules[self.__name__] = here


def import_lightly() -> None:
    """Import msgspec and argparse."""
    stand_ins = (
        # No report holds such values.
        StandIn(
            "uuid", UUID=type("UUID", (), {}), SafeUUID=type("SafeUUID", (), {"unknown": None})
        ),
        StandIn("decimal", Decimal=type("Decimal", (), {})),
        StandIn("textwrap"),  # for a JSON schema of descriptions, which a run never makes
        StandIn("gettext", gettext=str, ngettext=_of_number),
    )
    names = {each.__name__: each for each in stand_ins if each.__name__ not in sys.modules}
    with_extensions = "typing_extensions" in sys.modules
    sys.modules.update(names)
    if not with_extensions:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import argparse  # noqa: F401

        import msgspec  # noqa: F401
    finally:
        for name in names:
            sys.modules.pop(name, None)
        if not with_extensions:
            sys.modules.pop("typing_extensions", None)


def _of_number(singular: str, plural: str, number: int) -> str:
    return singular if number == 1 else plural
