"""Telling what is there from what is absent, without using it."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec import UNSET, UnsetType

from vringcore.model.values import Absent

_T = TypeVar("_T")


def number(value: Any) -> int | None:
    """Return a number that is there, else None: for Absent, UNSET and None alike."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(value: Any) -> str:
    """Return a text that is there, else ""."""
    return value if isinstance(value, str) else ""


def many(value: tuple[_T, ...] | Absent | UnsetType | None) -> tuple[_T, ...]:
    """Return what a list holds; nothing for one that is absent or was not asked for."""
    return value if isinstance(value, tuple) else ()


def lack(value: Any) -> str:
    """Return why a part of the report is not there, "" if it is."""
    if value is UNSET:
        return "not asked for"
    return value.describe() if isinstance(value, Absent) else ""
