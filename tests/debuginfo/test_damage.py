"""Damaged files: every failure is one of our errors, soon, and nothing is made up."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.debuginfo.conftest import Build
from tests.debuginfo.reading import KINDS
from tests.synth.programs import SAME_ANSWERS, TYPE_UNITS, Variant
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.provider import DebugInfo
from vringcore.errors import VringcoreError
from vringcore.layout.provider import Layouts
from vringcore.layout.store import LayoutStore

PATIENCE = 20.0
"""Seconds that reading one damaged file of 40 KB may take; far more than it does."""

FLIPS = 150
CUTS = 120

VARIANTS = [
    v
    for v in (*SAME_ANSWERS, *TYPE_UNITS)
    if v.name in ("gcc-dwarf4", "gcc-dwarf5", "gcc-zlib", "gcc-dwz", "clang-dwarf5")
    or v in TYPE_UNITS[:1]
]


def read_everything(path: Path) -> int:
    """Ask for everything that a file holds; return how many answers there were."""
    answers = 0
    start = time.monotonic()
    try:
        files = find_files("", str(path), executable=str(path))
    except VringcoreError:
        return 0
    provider = DebugInfo(files)
    layouts = LayoutStore().layouts("", [provider])
    keys = ["struct VirtIODevice", "typedef CoroutineUContext", "struct Absent", "enum Wide"]
    keys += _indexed(provider)
    for key in keys:
        answers += _ask(layouts, key)
    for name, unit, function in (
        ("queues", "", ""), ("current", "queue.c", ""), ("thread_number", "queue.c", ""),
        ("root", "queue.c", "object_get_root"), ("total_in_block", "", "step"), ("none", "", ""),
    ):  # fmt: skip
        answers += layouts.find_variable(name, unit, function) is not None
        answers += layouts.find_function(function or "main", unit) is not None
        answers += layouts.find_symbol(name) is not None
    for address in (0, 0x1139, 0x4010, 0x4020, 1 << 63):
        answers += layouts.symbol_at(address) is not None
    provider.close()
    assert time.monotonic() - start < PATIENCE
    return answers


def _indexed(provider: DebugInfo) -> list[str]:
    try:
        index = provider.search().index
    except VringcoreError:
        return []
    return [
        f"{word} {name.decode('utf-8', 'backslashreplace')}"
        for kind, word in KINDS.items()
        for name in index.type_names(kind)
    ]


def _ask(layouts: Layouts, key: str) -> int:
    try:
        definition = layouts.find_definition(key, ("queue.c",))
        if definition is None:
            return 0
        layouts.size_of(layouts.named(key))
        for member in getattr(definition, "members", ()):
            layouts.size_of(member.type)
    except VringcoreError:
        return 0
    return 1


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_a_file_cut_anywhere(variant: Variant, build: Build, tmp_path: Path) -> None:
    whole = build(variant).read_bytes()
    assert read_everything(build(variant)) > 30
    damaged = tmp_path / "program"
    for size in range(0, len(whole), max(1, len(whole) // CUTS)):
        damaged.write_bytes(whole[:size])
        read_everything(damaged)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_a_file_with_bytes_changed(variant: Variant, build: Build, tmp_path: Path) -> None:
    whole = build(variant).read_bytes()
    damaged = tmp_path / "program"
    with ElfFile.open(str(build(variant))) as elf:
        sections = [s for s in elf.headers if s.name.startswith((".debug_", ".symtab", ".strtab"))]
    choice = random.Random(variant.name)
    for _ in range(FLIPS):
        data = bytearray(whole)
        section = choice.choice(sections)
        for _ in range(choice.choice((1, 1, 4))):
            at = section.offset + choice.randrange(section.size)
            data[at] = choice.choice((0, 0xFF, 0x80, 0x7F, data[at] ^ (1 << choice.randrange(8))))
        damaged.write_bytes(data)
        read_everything(damaged)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_headers_with_bytes_changed(variant: Variant, build: Build, tmp_path: Path) -> None:
    whole = build(variant).read_bytes()
    damaged = tmp_path / "program"
    with ElfFile.open(str(build(variant))) as elf:
        header = elf.header
    places = [*range(4, 64), *range(header.shoff, header.shoff + header.shnum * header.shentsize)]
    choice = random.Random(variant.name)
    for at in choice.sample(places, FLIPS):
        data = bytearray(whole)
        data[at] = choice.choice((0, 0xFF, 0x7F, data[at] ^ (1 << choice.randrange(8))))
        damaged.write_bytes(data)
        read_everything(damaged)
