"""Variables, structures and types of real QEMUs, sampled by hundreds, as gdb prints them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.expr.printing import differences, gdb_lines, names_in, our_line
from tests.expr.structures import STRUCTURES, of_devices, pointers, symbols
from tests.lab.cases import CoreCase, iter_cores
from tests.qemu.support import open_lab
from vringcore.api import Core

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

pytestmark = pytest.mark.lab

SAMPLE = 300
FORMATS = "xducsotzaf"


def one_of_each_version() -> list[CoreCase]:
    """Return one gcore core of each QEMU version, by way of the scenario with most devices."""
    found: dict[str, CoreCase] = {}
    for core in iter_cores():
        if core.kind == "gcore" and core.case.scenario == "nine-devices":
            found[core.case.version] = core
    return list(found.values())


NO_CORE = [pytest.param(None, marks=pytest.mark.skip("no cores: `python -m tests.lab make 7.2`"))]


@pytest.fixture(
    scope="module",
    params=one_of_each_version() or NO_CORE,
    ids=lambda core: core.name if core else "none",
)
def core(request: pytest.FixtureRequest) -> CoreCase:
    found: CoreCase = request.param
    return found


@pytest.fixture(scope="module")
def process(core: CoreCase) -> Iterator[Process]:
    opened = open_lab(core)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def devices(process: Process) -> list[str]:
    """Give every virtio device as an expression."""
    found = Core(process).report({"devices"}).devices or ()
    return pointers([int(device.address) for device in found])


@pytest.fixture(scope="module")
def names(core: CoreCase) -> dict[str, list[str]]:
    return names_in(core.case.executable)


def sample(names: list[str]) -> list[str]:
    return random.Random(1).sample(names, min(SAMPLE, len(names)))


def compare(process: Process, core: CoreCase, commands: list[str], scratch: Path) -> None:
    truth = gdb_lines(core.case.executable, core.path, commands, scratch)
    answered = [line for line in truth.values() if not line.startswith("error:")]
    assert len(answered) > len(commands) * 0.8
    assert differences(process, truth) == []


def comparable(truth: dict[str, str], name: str) -> bool:
    """Tell whether gdb and we mean the same object by a variable's name.

    gdb may take an array's declaration, without its length, where its definition is to be had; it
    takes a thread's own variables from the thread it happens to stand in; it knows the values of
    some variables that have no place in memory; and it drops the character before an incomplete
    one (docs/print.md).
    """
    type_, place = truth[f"whatis {name}"], truth[f"p &{name}"]
    whole = "<incomplete sequence" not in truth[f"p {name}"]
    return whole and "[]" not in type_ and not place.startswith("error:")


def test_variables(
    process: Process, core: CoreCase, names: dict[str, list[str]], tmp_path: Path
) -> None:
    chosen = sample(names["variable"])
    letters = random.Random(2)
    commands = [f"{word}{name}" for name in chosen for word in ("p ", "p &", "whatis ", "ptype ")]
    formatted = {name: f"p/{letters.choice(FORMATS)} {name}" for name in chosen}
    commands += formatted.values()
    truth = gdb_lines(core.case.executable, core.path, commands, tmp_path)
    kept = [
        name
        for name in chosen
        if comparable(truth, name) and "once per thread" not in our_line(process, f"p {name}")
    ]
    assert len(kept) > len(chosen) * 0.9
    lines = {
        command: truth[command]
        for name in kept
        for command in (f"p {name}", f"p &{name}", f"whatis {name}", formatted[name])
    }
    assert differences(process, lines) == []


def test_structures(process: Process, core: CoreCase, devices: list[str], tmp_path: Path) -> None:
    texts = STRUCTURES + of_devices(devices)
    commands = [f"{word} {text}" for text in texts for word in ("p", "p/x", "p/d", "ptype")]
    compare(process, core, commands, tmp_path)


def test_types(
    process: Process, core: CoreCase, names: dict[str, list[str]], tmp_path: Path
) -> None:
    commands: list[Any] = [
        f"{word} struct {name}" for name in sample(names["struct"]) for word in ("ptype", "ptype/o")
    ]
    commands += [f"ptype union {name}" for name in sample(names["union"])]
    commands += [f"ptype enum {name}" for name in sample(names["enum"])]
    compare(process, core, commands, tmp_path)


def test_symbols(process: Process, core: CoreCase, devices: list[str], tmp_path: Path) -> None:
    compare(process, core, [f"info symbol {text}" for text in symbols(devices[0])], tmp_path)
