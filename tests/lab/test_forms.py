"""QEMU 7.2 compiled otherwise (clang, LTO, split and type units, DWARF 3): types and answers hold.

`python -m tests.lab make 7.2-clang all` and its like make the cores. Layouts are held against those
of the plain build, which gdb and pyelftools have confirmed; answers against QEMU's monitor and the
disk's server, and against gdb as far as it can read such debug information (tests/support).
"""

from __future__ import annotations

from pathlib import Path

import pytest

import vringcore
from tests.debuginfo.reading import all_keys, layouts_of
from tests.lab.cases import CoreCase, iter_cores
from tests.lab.forms import PROGRAM, SPLIT_UNITS, is_form
from tests.lab.paths import forms_cases_directory, lab_programs, qemu_directory
from tests.lab.qmp_compare import compare_core
from tests.support.facts import PARTS, compare
from vringcore.errors import VringcoreError
from vringcore.layout.types import Enum, Record
from vringcore.model.findings import Verdict
from vringcore.model.requests import BlockRequest

PLAIN = qemu_directory("7.2") / PROGRAM

pytestmark = pytest.mark.lab

NONE = [
    pytest.param(None, marks=pytest.mark.skip("none: `python -m tests.lab make 7.2-clang all`"))
]
PROGRAMS = [
    pytest.param(path, id=path.parent.name)
    for path in lab_programs(PROGRAM)
    if is_form(path.parent.name) and PLAIN.exists()
] or NONE
FORMS = [pytest.param(core, id=core.name) for core in iter_cores(forms_cases_directory())] or NONE


WHOLE = (8, 16, 32, 64)
"""Sizes in bits of bit-fields that clang describes as members like others."""


def shape(definition: object) -> object:
    """What two builds have in common: size, members and their offsets; enumerators."""
    if isinstance(definition, Record):
        return definition.size, [
            (m.name, m.offset, m.bit_offset, None if m.bit_size in WHOLE else m.bit_size)
            for m in definition.members
        ]
    return definition.enumerators if isinstance(definition, Enum) else None


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_type_is_the_plain_builds(program: Path) -> None:
    plain, other = layouts_of(PLAIN), layouts_of(program)
    compared, missing, differing = 0, [], []
    for key in all_keys(PLAIN):
        expected = plain.find_definition(key)
        found = other.find_definition(key)
        if found is None:
            missing.append(key)
            continue
        compared += 1
        if shape(found) != shape(expected):
            differing.append(key)
    # A compiler leaves out types that nothing uses, each its own.
    assert compared > 6000
    assert len(missing) < compared / 50
    # Several files define another type by that name, and a build's first is not the other's.
    assert len(differing) <= 3, differing


@pytest.mark.parametrize("core", FORMS)
def test_answers_equal_gdbs_and_the_monitors(core: CoreCase) -> None:
    with core.open() as opened:
        report = opened.report(PARTS)
    count = compare(core, report)
    assert count.differing == []
    # Of link-time optimisation gdb does not find the devices' variables.
    assert count.equal > 90
    assert compare_core(core).differing == []


@pytest.mark.parametrize("core", FORMS)
def test_the_server_holds_what_is_in_flight(core: CoreCase) -> None:
    with core.open() as opened:
        devices = opened.report(("requests",)).devices
    assert isinstance(devices, tuple)
    requests = [
        (each.request.operation, int(each.request.sector) * 512, each.request.length)
        for device in devices
        for queue in device.queues or ()
        for each in queue.in_flight or ()
        if isinstance(each.request, BlockRequest)
    ]
    held = [(h["type"], h["offset"], h["length"]) for s in core.case.servers for h in s["held"]]
    assert sorted(requests) == sorted(held) != []


@pytest.mark.parametrize("core", FORMS)
def test_the_verdict_is_the_plain_builds(core: CoreCase) -> None:
    with core.open() as opened:
        found = opened.why()
    assert isinstance(found.verdict, Verdict)
    migrating = core.case.scenario == "stuck-migration"
    expected = "migration-waits-for-drain" if migrating else "request-not-answered-by-nbd-server"
    assert found.verdict.code == expected


def test_split_units_apart_are_found_by_name(tmp_path: Path) -> None:
    """Each unit in a file of its own, below a directory that is given, and no file of them all."""
    program = qemu_directory("7.2-split") / PROGRAM
    core = forms_cases_directory() / "7.2-split" / "stuck" / "core"
    if not core.exists():
        pytest.skip("no core: `python -m tests.lab make 7.2-split stuck`")
    alone = tmp_path / PROGRAM
    alone.symlink_to(program)
    copy = tmp_path / "copy" / PROGRAM
    copy.parent.mkdir()
    copy.write_bytes(program.read_bytes())
    with pytest.raises(VringcoreError, match=r"\.dwo"):
        vringcore.open_core(core, executable=copy).report(("queues",))
    units = str(program.parent / SPLIT_UNITS)
    with (
        vringcore.open_core(core, executable=copy, debug_dirs=(units,)) as apart,
        vringcore.open_core(core, executable=program) as packed,
    ):
        assert apart.report(PARTS).devices == packed.report(PARTS).devices
