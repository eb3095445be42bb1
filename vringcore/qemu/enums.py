"""Names of enumerators, from the build's own types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import LayoutMissingError
from vringcore.layout.types import Enum, Record

if TYPE_CHECKING:
    from vringcore.view.declare import View
    from vringcore.view.views import Views


def enumerator(views: Views, view: type[View], member: str, value: int, prefix: str) -> str:
    """Return the name of a member's value as QMP writes names: ``nospace``, ``connecting-wait``.

    :param prefix: what all names of the enumeration begin with, ``NBD_CLIENT_``
    :return: ``value N`` where the build has no name for it
    """
    names = _enumerators(views, view, member)
    name = next((name for name, number in names.items() if number == value), None)
    if name is None:
        return f"value {value}"
    return name.removeprefix(prefix).lower().replace("_", "-")


def _enumerators(views: Views, view: type[View], member: str) -> dict[str, int]:
    layouts = views.layouts
    try:
        record = layouts.resolve(layouts.definition(view.c_type, view.unit))
        found = layouts.member(record, member) if isinstance(record, Record) else None
        type_ = layouts.resolve(found[1]) if found else None
    except LayoutMissingError:
        return {}
    return type_.enumerators if isinstance(type_, Enum) else {}
