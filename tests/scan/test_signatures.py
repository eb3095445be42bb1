"""The same cause has the same signature in two releases of QEMU, and other causes have others."""

from __future__ import annotations

import os
import re
from functools import cache

import pytest

import vringcore
from tests.lab.cases import DUMPS

ALIKE = sorted(
    {path.name for path in (DUMPS / "7.2").iterdir()}
    & {path.name for path in (DUMPS / "10.0").iterdir()}
)
"""Incidents brought about in both."""


@cache
def signature(version: str, name: str) -> str:
    path = str(DUMPS / version / name / "core.zst")
    with vringcore.open_core(path, sysroot=os.devnull) as core:
        found = core.why().signature
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize("name", ALIKE)
def test_two_releases_have_one_signature(name: str) -> None:
    assert signature("7.2", name) == signature("10.0", name)
    assert not re.search(r"0x|\d{4}|lab-vm|disk0", signature("7.2", name))


def test_other_causes_have_others() -> None:
    names = ("stuck", "stuck-throttle", "stuck-threads", "stuck-migration", "broken", "bql-held")
    assert len({signature("10.0", name) for name in names}) == len(names)
    assert signature("10.0", "idle") == ""
