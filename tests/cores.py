"""What the comparisons run over: the dumps everywhere, the lab's cores where it has made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.cases import CoreCase, iter_cores, iter_dumps

NO_LAB = pytest.param(
    None,
    id="lab",
    marks=[pytest.mark.lab, pytest.mark.skip("no cores: `python -m tests.lab make 7.2 all`")],
)


def cores(wanted: Callable[[CoreCase], object] = bool) -> list[Any]:
    """Return the dumps and the lab's cores as parameters; the latter are marked ``lab``."""
    return dumps(wanted) + lab_cores(wanted)


def dumps(wanted: Callable[[CoreCase], object] = bool) -> list[Any]:
    """Return the small cores that the repository brings along."""
    return [pytest.param(core, id=core.name) for core in iter_dumps() if wanted(core)]


def lab_cores(wanted: Callable[[CoreCase], object] = bool) -> list[Any]:
    """Return the whole cores, marked ``lab``; where there are none, one that says so."""
    found = [
        pytest.param(core, id=core.name, marks=pytest.mark.lab)
        for core in iter_cores()
        if wanted(core)
    ]
    return found or [NO_LAB]


def has_devices(core: CoreCase) -> bool:
    """Tell whether gdb has read the devices of a core."""
    return core.gdb is not None and "devices" in core.gdb


def was_asked(core: CoreCase) -> bool:
    """Tell whether QEMU's monitor said what it knew before a core was taken."""
    return core.case.qmp_before is not None


def told_of_virtio(core: CoreCase) -> bool:
    """Tell whether it also said what it knew of its virtio devices: QEMU does since 7.2."""
    return "virtio" in (core.case.qmp_before or {})
