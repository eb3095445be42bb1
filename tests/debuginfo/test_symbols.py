"""Symbols by name and by address, against nm and gdb."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.debuginfo.conftest import Build
from tests.debuginfo.oracles import ask_gdb
from tests.synth.cross import S390X
from tests.synth.programs import SAME_ANSWERS, Variant
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.symbols import SymbolTable

PLAIN = next(v for v in SAME_ANSWERS if v.name == "gcc-dwarf5")
NARROW = next(v for v in SAME_ANSWERS if v.name == "gcc-m32")
STRIPPED = Variant("gcc-stripped", steps=(("strip", "{exe}"),), flags=("-g", "-rdynamic"))


def table_of(program: Path) -> SymbolTable:
    table = SymbolTable.of(ElfFile.open(str(program)))  # closed with the table, which reads on
    assert table is not None
    return table


def sized_symbols(program: Path, *options: str) -> list[tuple[int, int, str, str]]:
    """Return address, size, kind and name of every symbol with a size, as nm reads them."""
    command = ["nm", "-S", "--defined-only", *options, str(program)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return [
        (int(r[0], 16), int(r[1], 16), r[2], r[3].partition("@")[0]) for r in rows if len(r) == 4
    ]


@pytest.mark.parametrize("variant", [PLAIN, NARROW], ids=lambda v: v.name)
def test_every_symbol_is_found_by_name(variant: Variant, build: Build) -> None:
    program = build(variant)
    table = table_of(program)
    assert table.complete
    for address, size, _, name in sized_symbols(program):
        assert (address, size) in {(s.address, s.size) for s in table.find_all(name)}, name


@pytest.mark.usefixtures("gdb")
@pytest.mark.parametrize("variant", [PLAIN, NARROW], ids=lambda v: v.name)
def test_addresses_have_the_symbol_that_gdb_shows(
    variant: Variant, build: Build, tmp_path: Path
) -> None:
    program = build(variant)
    symbols = [s for s in sized_symbols(program) if s[3] not in ("thread_number", "local_number")]
    assert len(symbols) > 15
    places = sorted({a + d for a, size, _, _ in symbols for d in (0, 1, size - 1) if d < size})
    truth = ask_gdb(program, tmp_path, symbols=places)["symbols"]
    truth = {a: "alias_name" if n == "strong_name" else n for a, n in truth.items()}
    for order in (places, places[::-1]):
        table = table_of(program)  # Anew: what was asked before must not matter.
        found = {str(a): s.name if (s := table.at(a)) else None for a in order}
        # gdb takes "name.7" for an Ada name, whose number it leaves out.
        assert {a: n and re.sub(r"\.\d+$", "", n) for a, n in found.items()} == truth


def test_of_two_at_one_address_the_global_one_is_shown(tmp_path: Path) -> None:
    source = """
    static int __attribute__((used)) a_local = 1;
    extern int b_weak __attribute__((weak, alias("a_local")));
    extern int z_shared __attribute__((alias("a_local")));
    extern int y_shared __attribute__((alias("a_local")));
    int main(void) { return 0; }
    """
    (tmp_path / "a.c").write_text(source)
    program = tmp_path / "program"
    subprocess.run(["gcc", "a.c", "-o", str(program)], cwd=tmp_path, check=True)
    place = next(a for a, _, _, name in sized_symbols(program) if name == "a_local")
    found = table_of(program).at(place)
    assert found is not None
    assert found.name == "y_shared"


def test_an_address_outside_every_symbol_has_none(build: Build) -> None:
    table = table_of(build(PLAIN))
    for address, size, _, name in sized_symbols(build(PLAIN)):
        after = table.at(address + size)
        assert after is None or after.name != name
    assert table.at(0) is None
    assert table.at(1 << 63) is None


def test_undefined_symbols_are_not_found(build: Build) -> None:
    table = table_of(build(PLAIN))
    assert table.find("weak_name") is None
    assert table.find("__libc_start_main") is None
    assert table.find("") is None


def test_a_global_symbol_goes_before_a_local_one(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("static int twice = 1; int *here(void) { return &twice; }")
    (tmp_path / "b.c").write_text("int twice = 2; int main(void) { return twice; }")
    program = tmp_path / "program"
    subprocess.run(["gcc", "a.c", "b.c", "-o", str(program)], cwd=tmp_path, check=True)
    found = table_of(program).find("twice")
    assert found is not None
    shared = {n: a for a, _, kind, n in sized_symbols(program) if kind == "D"}
    assert found.address == shared["twice"]


def test_a_name_stored_as_the_tail_of_another_is_found(tmp_path: Path) -> None:
    source = "int list = 1; int the_list = 2; int main(void) { return list + the_list; }"
    (tmp_path / "a.c").write_text(source)
    program = tmp_path / "program"
    subprocess.run(["gcc", "a.c", "-o", str(program)], cwd=tmp_path, check=True)
    with ElfFile.open(str(program)) as elf:
        strings = elf.section(".strtab")
        assert strings is not None
        assert b"\0list\0" not in strings.data
    places = {name: address for address, _, _, name in sized_symbols(program)}
    table = table_of(program)
    for name in ("list", "the_list"):
        found = table.find(name)
        assert found is not None
        assert found.address == places[name]
    assert table.find("ist") is None


def test_a_name_is_found_whatever_the_bytes_before_its_entry(tmp_path: Path) -> None:
    """Big-endian, a size of 8 before a name at 0x800 reads as a name at 0x800, a byte early."""
    if S390X.missing:
        pytest.skip(S390X.missing)
    code, target = tmp_path / "names.s", tmp_path / "names.o"
    for first in ("f", "fi", "fir", "firs", "first", "first_", "first_o", "first_on"):
        names = [first, *(f"name{n:03}" for n in range(300))]
        lines = [f".globl {n}\n.type {n}, @object\n.size {n}, 8\n{n}: .quad 1" for n in names]
        code.write_text("\n".join([".data", *lines, ""]))
        subprocess.run([f"{S390X.triplet}-as", str(code), "-o", str(target)], check=True)
        with ElfFile.open(str(target)) as elf:
            section = elf.section(".strtab")
            strings = section.data if section is not None else b""
        if strings[0x7FF:0x804] == b"\0name":
            break
    else:
        pytest.fail("no name lies at 0x800")
    table = table_of(target)
    found = [table.find(name) for name in names]
    assert [s.name if s else None for s in found] == names
    assert [s.address for s in found if s] == list(range(0, 8 * len(names), 8))


def test_static_variables_are_found_under_their_numbered_names(build: Build) -> None:
    table = table_of(build(PLAIN))
    numbered = [(a, n) for a, _, _, n in sized_symbols(build(PLAIN)) if n.startswith("root.")]
    assert len(numbered) == 2
    assert sorted(s.address for s in table.find_static("root")) == sorted(a for a, _ in numbered)
    assert table.may_have("root")
    assert table.may_have("virtio_list")
    assert not table.may_have("irtio_list")
    assert not table.may_have("no_such_name")


def test_a_stripped_program_has_its_dynamic_symbols(build: Build) -> None:
    program = build(STRIPPED)
    table = table_of(program)
    assert not table.complete
    dynamic = {name: address for address, _, _, name in sized_symbols(program, "-D")}
    assert dynamic
    for name in ("make_queue", "first_device"):
        found = table.find(name)
        assert found is not None
        assert found.address == dynamic[name]
    assert table.find("virtio_list") is None
