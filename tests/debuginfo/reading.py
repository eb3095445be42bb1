"""Opening programs the way the product does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.debuginfo.shapes import shape_of
from vringcore.debuginfo import toplevel as top
from vringcore.debuginfo.dwarf import Dwarf
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.index import UnitIndex
from vringcore.debuginfo.provider import DebugInfo
from vringcore.debuginfo.typereader import TypeReader
from vringcore.errors import LayoutMissingError
from vringcore.layout.provider import Layouts
from vringcore.layout.store import LayoutStore

KINDS = {top.STRUCT: "struct", top.UNION: "union", top.ENUM: "enum", top.TYPEDEF: "typedef"}


def layouts_of(program: Path, **places: Any) -> Layouts:
    """Return the layouts of a program, without any cache."""
    with ElfFile.open(str(program)) as elf:
        build_id, pointer_size = elf.build_id, elf.header.pointer_size
    provider = DebugInfo(find_files(build_id, str(program), **places))
    return LayoutStore().layouts(build_id, [provider], pointer_size=pointer_size)


def all_keys(program: Path) -> list[str]:
    """Return the key of every named type of a program that holds its own debug information."""
    with ElfFile.open(str(program)) as elf:
        index = UnitIndex(Dwarf(elf))
        assert not index.refused
        return [
            f"{word} {n.decode()}" for kind, word in KINDS.items() for n in index.type_names(kind)
        ]


def our_shape(layouts: Layouts, key: str) -> Any:
    """Return a type's shape as JSON would hold it; ``"incomplete"`` for what no unit completes."""
    try:
        return json.loads(json.dumps(shape_of(layouts, layouts.definition(key))))
    except LayoutMissingError:
        return "incomplete"


def ambiguous_keys(program: Path) -> set[str]:
    """Return the keys of types that units of a program define differently, typedefs of them too."""
    differing = set()
    with ElfFile.open(str(program)) as elf:
        dwarf = Dwarf(elf)
        index = UnitIndex(dwarf)
        reader = TypeReader(lambda _key, _entry: "")
        for kind, word in KINDS.items():
            for name in index.type_names(kind):
                places = index.type_places(kind, name)
                found = [reader.definition(dwarf.unit(n), o) for n, o in places]
                target = getattr(getattr(found[0], "type", None), "key", "")
                if target in differing or any(other != found[0] for other in found):
                    differing.add(f"{word} {name.decode()}")
    return differing
