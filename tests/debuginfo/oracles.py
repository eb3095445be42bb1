"""What gdb and pyelftools say of a program's types."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elftools.dwarf.dwarf_expr import DWARFExprParser

GDB = shutil.which("gdb")
_SCRIPT = Path(__file__).with_name("gdb_dump.py")


def ask_gdb(
    program: Path,
    scratch: Path,
    *,
    types: list[str] | None = None,
    variables: list[str] | None = None,
    symbols: list[int] | None = None,
    sources: list[int] | None = None,
) -> dict[str, Any]:
    """Return gdb's answers; a string in place of a shape or address is its error message."""
    assert GDB is not None
    request, answer = scratch / "gdb-request.json", scratch / "gdb-answer.json"
    asked = {"types": types or [], "variables": variables or [], "symbols": symbols or []}
    asked["sources"] = sources or []
    request.write_text(json.dumps(asked))
    places = f"python request = {str(request)!r}; answer = {str(answer)!r}"
    done = subprocess.run(
        [GDB, "-batch", "-nx", "-iex", "set auto-load no", "-ex", places, "-x", str(_SCRIPT),
         str(program)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.exists(), done.stderr
    result: dict[str, Any] = json.loads(answer.read_text())
    return result


def elftools_records(program: Path) -> Iterator[tuple[int, int, list[Any]]]:
    """Yield every complete named struct and union at file scope, of every unit, by pyelftools.

    Each is (offset of its unit, offset of its entry, ``[size, [[name, bit position, bits]]]``).
    """
    from elftools.elf.elffile import ELFFile

    with program.open("rb") as stream:
        elf = ELFFile(stream)
        parser = DWARFExprParser(elf.get_dwarf_info().structs)
        for unit in elf.get_dwarf_info().iter_CUs():
            for die in unit.get_top_DIE().iter_children():
                if die.tag not in ("DW_TAG_structure_type", "DW_TAG_union_type"):
                    continue
                if "DW_AT_declaration" in die.attributes or "DW_AT_name" not in die.attributes:
                    continue
                members = [
                    _member(child, parser)
                    for child in die.iter_children()
                    if child.tag == "DW_TAG_member"
                ]
                size = die.attributes["DW_AT_byte_size"].value
                yield unit.cu_offset, die.offset, [size, members]


def _member(die: Any, parser: DWARFExprParser) -> list[Any]:
    attributes = {name: attribute.value for name, attribute in die.attributes.items()}
    name = attributes.get("DW_AT_name", b"").decode()
    bits = attributes.get("DW_AT_bit_size", 0)
    offset = attributes.get("DW_AT_data_member_location", 0)
    if isinstance(offset, list):
        operation = parser.parse_expr(offset)[0]
        assert operation.op_name == "DW_OP_plus_uconst"
        offset = operation.args[0]
    if "DW_AT_data_bit_offset" in attributes:
        return [name, attributes["DW_AT_data_bit_offset"], bits]
    position = 8 * offset
    if "DW_AT_bit_offset" in attributes:
        from_top = attributes["DW_AT_bit_offset"]
        if from_top >> 63 == 1:
            from_top -= 1 << 64  # clang writes eight bytes, which pyelftools takes for unsigned
        # It counts from the most significant bit of the storage unit, which comes first or last.
        little = die.dwarfinfo.config.little_endian
        position += 8 * attributes["DW_AT_byte_size"] - from_top - bits if little else from_top
    return [name, position, bits]
