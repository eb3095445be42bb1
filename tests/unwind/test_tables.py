"""Unwind tables of real files, row by row, against pyelftools."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from elftools.dwarf.callframe import FDE, RegisterRule
from elftools.elf.elffile import ELFFile

from tests.unwind.support import BIAS, loaded
from vringcore.memory.trace import Trace
from vringcore.unwind.cfi import How, Row, row_at
from vringcore.unwind.images import Image

SYSTEM = [*Path("/lib/x86_64-linux-gnu").glob("libc.so.6"), *Path("/usr").glob("lib64/libc.so.6")]

KINDS = {
    RegisterRule.UNDEFINED: How.UNDEFINED,
    RegisterRule.SAME_VALUE: How.SAME,
    RegisterRule.OFFSET: How.OFFSET,
    RegisterRule.VAL_OFFSET: How.VALUE,
    RegisterRule.REGISTER: How.REGISTER,
    RegisterRule.EXPRESSION: How.AT_EXPRESSION,
    RegisterRule.VAL_EXPRESSION: How.EXPRESSION,
}


def entries(path: Path | str, step: int = 1) -> list[FDE]:
    """Return each ``step``-th function's entry that pyelftools can decode."""
    with Path(path).open("rb") as file:
        dwarf = ELFFile(file).get_dwarf_info()
        found = []
        for each in [e for e in dwarf.EH_CFI_entries() if isinstance(e, FDE)][::step]:
            with suppress(ValueError):  # DW_CFA_GNU_args_size is unknown to it
                each.get_decoded()
                found.append(each)
        return found


def assert_equal(row: Row, truth: dict[Any, Any], where: str) -> None:
    cfa = truth["cfa"]
    if cfa.expr is not None:
        assert row.cfa_expression == bytes(cfa.expr), where
    else:
        assert (row.cfa_register, row.cfa_offset) == (cfa.reg, cfa.offset), where
        assert row.cfa_expression == b"", where
    theirs = {}
    for number, rule in truth.items():
        if isinstance(number, int):
            argument = rule.arg
            expression = bytes(argument) if isinstance(argument, list) else b""
            theirs[number] = (KINDS[rule.type], 0 if expression else argument or 0, expression)
    assert row.rules == theirs, where


def compare(path: Path | str, step: int = 1) -> int:
    """Compare every row of every ``step``-th function; return how many."""
    space, module = loaded(path)
    image = Image(module, space)
    rows = 0
    for entry in entries(path, step):
        start, size = entry["initial_location"], entry["address_range"]
        # The entry of an empty procedure linkage table goes on behind its end.
        table = [row for row in entry.get_decoded().table if row["pc"] < start + size]
        ends = [row["pc"] for row in table[1:]] + [start + size]
        for truth, end in zip(table, ends, strict=True):
            for pc in {truth["pc"], end - 1}:
                found = image.entry_at(pc + BIAS)
                assert found is not None
                assert (found.start, found.end) == (start + BIAS, start + BIAS + size)
                assert_equal(row_at(found, pc + BIAS), truth, f"{path} at {pc:#x}")
                rows += 1
    assert image.problem == ""
    return rows


def test_every_row_of_compiled_functions(library: Path) -> None:
    assert compare(library) > 20


@pytest.mark.skipif(not SYSTEM, reason="no libc with unwind tables where Debian and Fedora have it")
def test_rows_of_the_c_library() -> None:
    assert compare(SYSTEM[0], step=17) > 500


def test_what_a_look_up_reads_is_little(library: Path) -> None:
    """A small core holds what was read: steps of the search, one entry and its common one."""
    space, module = loaded(library)
    image = Image(module, space)
    [*_, last] = entries(library)
    pc = last["initial_location"] + BIAS
    image.entry_at(pc)
    space.trace = Trace()
    fresh = Image(module, space)
    assert fresh.entry_at(pc) is not None
    read = sum(end - start for start, end in space.trace.touched())
    assert read < 400


def test_addresses_between_functions_have_no_entry(library: Path) -> None:
    space, module = loaded(library)
    image = Image(module, space)
    first = min(e["initial_location"] for e in entries(library))
    assert image.entry_at(first + BIAS - 1) is None
    assert image.entry_at(module.end) is None
    assert image.problem == ""


def test_every_row_of_aarch64_functions(arm_library: Path) -> None:
    space, module = loaded(arm_library)
    image = Image(module, space)
    signed = 0
    for entry in entries(arm_library):
        start, size = entry["initial_location"], entry["address_range"]
        table = {row["pc"]: row for row in entry.get_decoded().table}
        for pc in range(start, start + size, 4):
            truth = table[max(p for p in table if p <= pc)]
            found = image.entry_at(pc + BIAS)
            assert found is not None
            row = row_at(found, pc + BIAS)
            assert (row.cfa_register, row.cfa_offset) == (truth["cfa"].reg, truth["cfa"].offset)
            theirs = {
                n: (KINDS[r.type], r.arg or 0, b"") for n, r in truth.items() if isinstance(n, int)
            }
            theirs.pop(34, None)  # RA_SIGN_STATE is no register of ours, but a flag.
            assert row.rules == theirs
            signed += row.signed
    assert signed > 10
