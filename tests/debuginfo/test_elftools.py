"""Every definition of every unit of the variants, against pyelftools."""

from __future__ import annotations

import pytest

from tests.debuginfo.conftest import Build
from tests.debuginfo.oracles import elftools_records
from tests.debuginfo.test_qemu_binary import plain
from tests.synth.programs import MORE_FORMATS, OTHER_MACHINES, SAME_ANSWERS, Variant
from vringcore.debuginfo.dwarf import Dwarf
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.typereader import TypeReader
from vringcore.layout.types import Record

# pyelftools 0.33 cannot follow these: zstd sections, dwz's partial units at file scope.
UNREADABLE = {"gcc-zstd", "gcc-dwz", "gcc-split-file"}
READ = [v for v in (*SAME_ANSWERS, *MORE_FORMATS[:2], *OTHER_MACHINES) if v.name not in UNREADABLE]


@pytest.mark.parametrize("variant", READ, ids=lambda v: v.name)
def test_every_definition_is_as_pyelftools_has_it(variant: Variant, build: Build) -> None:
    program = build(variant)
    checked = 0
    with ElfFile.open(str(program)) as elf:
        dwarf = Dwarf(elf)
        reader = TypeReader(lambda _key, _entry: "")
        for _, offset, truth in elftools_records(program):
            record = reader.definition(*dwarf.unit_holding(offset))
            assert isinstance(record, Record)
            assert plain(record) == truth
            checked += 1
    assert checked >= 10
