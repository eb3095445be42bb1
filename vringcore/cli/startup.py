"""Imports of the command's own process, without what a run has no use for.

msgspec asks ``uuid``, ``decimal`` and ``datetime`` for the classes of values that it can encode,
takes from ``typing_extensions``, where that is installed, what ``typing`` has, too, and imports all
of its own parts. argparse would translate its own words, and its words alone. Together that is a
fifth of a short run. Stand-ins are there while msgspec and argparse are imported and no longer;
what they do not have themselves they get from the module they stand for. This process is ours: a
library must not do such a thing.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEMA = "msgspec._json_schema"


class StandIn(ModuleType):
    """A module with a few names of another, which is imported only for the others."""

    def __init__(self, name: str, **names: Any) -> None:
        super().__init__(name)
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # asked by every `from ... import`: none of these is a package
            raise AttributeError(name)
        in_place = sys.modules.get(self.__name__) is self
        if in_place:
            del sys.modules[self.__name__]
        try:
            return getattr(_imported(self.__name__), name)
        finally:
            if in_place:
                sys.modules[self.__name__] = self


def _imported(name: str) -> ModuleType:
    __import__(name)  # importlib itself would bring in warnings
    return sys.modules[name]


def import_lightly() -> None:
    """Import msgspec and argparse."""
    # All that datetime has in the end, without the Python that it takes the place of.
    import _datetime  # type: ignore[import-not-found]

    safe = type("SafeUUID", (), {"unknown": None})
    stand_ins = {
        "datetime": _datetime,
        # No report holds such values.
        "uuid": StandIn("uuid", UUID=type("UUID", (), {}), SafeUUID=safe),
        "decimal": StandIn("decimal", Decimal=type("Decimal", (), {})),
        # What a run never makes: other formats, and schemas of JSON.
        **{name: StandIn(name) for name in ("msgspec.inspect", "msgspec.toml", "msgspec.yaml")},
        _SCHEMA: StandIn(
            _SCHEMA, schema=_later("schema"), schema_components=_later("schema_components")
        ),
        "textwrap": StandIn("textwrap"),
        "gettext": StandIn("gettext", gettext=str, ngettext=_of_number),
    }
    names = {name: module for name, module in stand_ins.items() if name not in sys.modules}
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


def _later(name: str) -> Callable[..., Any]:
    """Return a function of msgspec's that is imported when it is called."""
    return lambda *args, **options: getattr(_imported(_SCHEMA), name)(*args, **options)


def _of_number(singular: str, plural: str, number: int) -> str:
    return singular if number == 1 else plural
