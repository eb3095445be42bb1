"""Enumerators by name, in every format that debug information comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.debuginfo.reading import layouts_of
from tests.synth.programs import MORE_FORMATS, SAME_ANSWERS, TYPE_UNITS

if TYPE_CHECKING:
    from tests.debuginfo.conftest import Build
    from tests.synth.programs import Variant

VALUES = {
    "RUN_PRELAUNCH": 0,
    "RUN_RUNNING": 4,
    "RUN_PAUSED": 5,
    "MINUS": -2,
    "BIG": 0x7FFFFFFF,
    "WIDER": 0x1FFFFFFFF,
    "NARROW": 200,
}


@pytest.mark.parametrize("variant", SAME_ANSWERS + TYPE_UNITS + MORE_FORMATS, ids=lambda v: v.name)
def test_enumerators(build: Build, variant: Variant) -> None:
    layouts = layouts_of(build(variant))
    for name, value in VALUES.items():
        found = layouts.find_enumerator(name)
        assert found is not None, name
        assert found[1] == value
    # A name that other things have, one that only ends like an enumerator, one of nothing.
    for name in ("VirtQueue", "PAUSED", "main", "NO_SUCH_NAME"):
        assert layouts.find_enumerator(name) is None
        assert layouts.is_absent(f"enumerator {name}")
