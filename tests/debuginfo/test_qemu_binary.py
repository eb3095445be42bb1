"""Every type of the QEMU binaries that the lab built, against gdb and against pyelftools."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.debuginfo.oracles import ask_gdb, elftools_records
from tests.debuginfo.reading import all_keys, ambiguous_keys, layouts_of, our_shape
from tests.lab.paths import lab_programs, lab_root
from vringcore.debuginfo.dwarf import Dwarf
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.typereader import TypeReader
from vringcore.layout.types import Record

pytestmark = pytest.mark.lab

# The lab's own builds: Debian's, stripped, is there too.
BINARIES = [program for program in lab_programs() if (program.parent / "build.json").exists()]


def version_of(program: Path) -> str:
    return program.parent.name


@pytest.fixture(params=BINARIES or [None], ids=lambda p: version_of(p) if p else "none")
def qemu(request: pytest.FixtureRequest) -> Path:
    """Return one QEMU with debug information."""
    if request.param is None:
        pytest.skip(f"no QEMU under {lab_root()}: run `python -m tests.lab`")
    program: Path = request.param
    return program


@pytest.mark.usefixtures("gdb")
def test_every_named_type_is_as_gdb_has_it(qemu: Path, tmp_path: Path) -> None:
    layouts = layouts_of(qemu)
    keys = all_keys(qemu)
    assert len(keys) > 5000
    ambiguous = ambiguous_keys(qemu)
    truth = ask_gdb(qemu, tmp_path, types=keys)["types"]
    differing = {}
    for key in keys:
        ours = our_shape(layouts, key)
        if ours == truth[key]:
            continue
        incomplete = ours == "incomplete" and truth[key] == [0, []]
        # Of different types of one name gdb and we may take different ones; the other test
        # compares each of them.
        if not incomplete and key not in ambiguous:
            differing[key] = (ours, truth[key])
    assert not differing
    assert len(ambiguous) < 100
    print(f"{version_of(qemu)}: {len(keys)} types equal gdb's")


def test_every_definition_of_every_unit_is_as_pyelftools_has_it(qemu: Path) -> None:
    checked = differing = 0
    ours_seconds = 0.0
    with ElfFile.open(str(qemu)) as elf:
        dwarf = Dwarf(elf)
        reader = TypeReader(lambda _key, _entry: "")
        for unit_offset, offset, truth in elftools_records(qemu):
            start = time.perf_counter()
            unit, inside = dwarf.unit_holding(offset)
            record = reader.definition(unit, inside)
            ours_seconds += time.perf_counter() - start
            assert unit.offset == unit_offset
            assert isinstance(record, Record)
            checked += 1
            differing += plain(record) != truth
    assert checked > 40_000
    assert differing == 0
    print(f"{version_of(qemu)}: {checked} definitions equal, ours in {ours_seconds:.1f} s")


def plain(record: Record) -> list[Any]:
    """Return a record as :func:`elftools_records` gives it."""
    return [
        record.size,
        [[m.name or "", 8 * m.offset + m.bit_offset, m.bit_size or 0] for m in record.members],
    ]
