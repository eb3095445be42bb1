"""Types and variables of one program, compiled in many ways, against gdb and nm."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.debuginfo.conftest import Build
from tests.debuginfo.oracles import ask_gdb
from tests.debuginfo.reading import all_keys, layouts_of, our_shape
from tests.synth.programs import (
    LINK_TIME,
    MORE_FORMATS,
    OTHER_MACHINES,
    PACKAGED,
    SAME_ANSWERS,
    SPLIT_UNITS,
    TYPE_UNITS,
    Variant,
)
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.symbols import SymbolTable
from vringcore.errors import LayoutMissingError

READ = [*SAME_ANSWERS, *MORE_FORMATS, *TYPE_UNITS, *SPLIT_UNITS, *PACKAGED]

VARIABLES = [
    "queues", "virtio_list", "first_device", "unnamed_variable", "context", "secret", "storage",
    "object_get_root::root", "step::total", "make_queue::made",
]  # fmt: skip


TOLD_OF = {"clang-dwarf5-split-dwarf-dwp": SPLIT_UNITS[-1]}
"""gdb 13 crashes on the first: it is asked of the same program with its .dwo files."""


def named(variant: Variant) -> str:
    return variant.name


def nm(program: Path) -> dict[str, int]:
    """Return the symbols of a program as binutils reads them."""
    text = subprocess.run(["nm", str(program)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3}


@pytest.mark.usefixtures("gdb")
@pytest.mark.parametrize("variant", READ, ids=named)
def test_every_type_is_as_gdb_has_it(variant: Variant, build: Build, tmp_path: Path) -> None:
    program = build(variant)
    debug = Path(f"{program}.debug")
    layouts = layouts_of(program)
    keys = all_keys(debug if debug.exists() else program)
    assert {"struct VirtQueue", "typedef CoroutineUContext", "enum Signed"} <= set(keys)
    if variant in TYPE_UNITS:
        keys.remove("struct Private")  # Two of that name, in units without one.
    asked = build(TOLD_OF.get(variant.name, variant))
    truth = ask_gdb(asked, tmp_path, types=keys)["types"]
    assert {key: our_shape(layouts, key) for key in keys} == truth


@pytest.mark.usefixtures("gdb")
@pytest.mark.parametrize("variant", READ, ids=named)
def test_every_variable_is_where_gdb_has_it(variant: Variant, build: Build, tmp_path: Path) -> None:
    program = build(variant)
    layouts = layouts_of(program)
    asked = build(TOLD_OF.get(variant.name, variant))
    truth = ask_gdb(asked, tmp_path, variables=VARIABLES)["variables"]
    for name in VARIABLES:
        function, _, variable = name.rpartition("::")
        found = layouts.variable(variable, function=function)
        assert found.address == truth[name], name
        assert found.unit.endswith(("queue.c", "main.c"))
        assert found.type is not None


@pytest.mark.parametrize("variant", READ, ids=named)
def test_a_static_variable_is_told_by_its_file(variant: Variant, build: Build) -> None:
    layouts = layouts_of(build(variant))
    queue = layouts.variable("current", "queue.c")
    main = layouts.variable("current", "main.c")
    assert queue.address != main.address
    with ElfFile.open(str(build(variant))) as elf:
        table = SymbolTable.of(elf)
        assert table is not None
        assert sorted(s.address for s in table.find_all("current")) == sorted(
            (queue.address, main.address)
        )
    assert layouts.find_variable("current") is None
    assert any("static in" in line for line in layouts.log)


@pytest.mark.parametrize("variant", READ, ids=named)
def test_a_variable_that_was_optimised_away_is_not_its_namesake(
    variant: Variant, build: Build
) -> None:
    layouts = layouts_of(build(variant))
    assert layouts.variable("folded", "queue.c")
    if "O0" not in variant.name:
        assert layouts.find_variable("folded", "main.c") is None


@pytest.mark.parametrize("variant", READ, ids=named)
def test_a_variable_in_a_block_of_a_function_is_found(variant: Variant, build: Build) -> None:
    layouts = layouts_of(build(variant))
    for name, function in (("only", "object_get_root"), ("total_in_block", "step")):
        found = layouts.variable(name, function=function)
        named = [a for n, a in nm(build(variant)).items() if name in n.split(".")]
        assert [found.address] == named


@pytest.mark.parametrize("variant", READ, ids=named)
def test_a_static_variable_of_a_function_inlined_everywhere_is_found(
    variant: Variant, build: Build
) -> None:
    if variant.compiler == "clang":
        pytest.skip("clang leaves out the function's name")
    layouts = layouts_of(build(variant))
    inlined = layouts.variable("root", "queue.c", "root_of").address
    other = layouts.variable("root", "queue.c", "object_get_root").address
    named = [a for n, a in nm(build(variant)).items() if n.startswith("root.")]
    assert sorted((inlined, other)) == sorted(named)


@pytest.mark.parametrize("variant", READ, ids=named)
def test_a_thread_local_variable_has_its_offset_in_the_block(
    variant: Variant, build: Build
) -> None:
    program = build(variant)
    layouts = layouts_of(program)
    found = layouts.variable("thread_number", "queue.c")
    assert found.thread_local
    assert found.external
    assert found.address == nm(program)["thread_number"]
    assert layouts.variable("local_number", "queue.c").address == nm(program)["local_number"]
    symbol = layouts.find_symbol("thread_number")
    assert symbol is not None
    assert symbol.thread_local


@pytest.mark.parametrize("variant", READ, ids=named)
def test_a_private_type_is_told_by_its_file(variant: Variant, build: Build) -> None:
    if variant in TYPE_UNITS:
        pytest.skip("type units do not tell their file")
    for unit, member in (("queue.c", "only_here"), ("main.c", "other_file")):
        record = layouts_of(build(variant)).definition("struct Private", (unit,))
        assert member in {m.name for m in record.members}  # type: ignore[union-attr]


@pytest.mark.parametrize("variant", READ, ids=named)
def test_functions_lie_where_nm_has_them(variant: Variant, build: Build) -> None:
    program = build(variant)
    layouts = layouts_of(program)
    for name in ("make_queue", "step", "main", "object_get_root"):
        found = layouts.find_function(name)
        assert found is not None
        assert found.address == nm(program)[name]
        assert found.size > 0
    assert layouts.find_function("no_such_function") is None


@pytest.mark.parametrize("variant", OTHER_MACHINES, ids=named)
def test_variables_of_other_machines_lie_where_nm_has_them(variant: Variant, build: Build) -> None:
    program = build(variant)
    layouts = layouts_of(program)
    symbols = nm(program)
    for name in VARIABLES:
        function, _, variable = name.rpartition("::")
        found = layouts.variable(variable, function=function)
        assert found.address == symbols[name.replace("::", ".")]
        assert layouts.find_symbol(name.replace("::", ".")) == layouts.symbol_at(found.address)
    if "powerpc64" in variant.name:
        return  # A function's symbol is its descriptor there.
    for name in ("make_queue", "step"):
        code = layouts.find_function(name)
        assert code is not None
        assert code.address == symbols[name]


@pytest.mark.parametrize("variant", LINK_TIME, ids=named)
def test_after_link_time_optimisation_addresses_come_from_the_symbols(
    variant: Variant, build: Build
) -> None:
    program = build(variant)
    layouts = layouts_of(program)
    symbols = nm(program)
    known = 0
    for name in VARIABLES:
        function, _, variable = name.rpartition("::")
        found = layouts.find_variable(variable, "queue.c", function)
        if found is not None:
            known += 1
            assert found.address in symbols.values()
            assert found.unit.endswith(("queue.c", "main.c"))
    assert known >= 2
    assert layouts.definition("struct VirtQueue", ("queue.c",))


@pytest.mark.parametrize("variant", SPLIT_UNITS, ids=named)
def test_split_units_that_are_not_there_are_missed_by_name(
    variant: Variant, build: Build, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    shutil.copy(build(variant), program)
    # As if it had been built elsewhere.
    data = program.read_bytes()
    built = str(build(variant).parent).encode()
    program.write_bytes(data.replace(built, b"/".ljust(len(built), b"x")))
    layouts = layouts_of(program)
    with pytest.raises(LayoutMissingError, match=r"-gsplit-dwarf.*\.dwo: not there"):
        layouts.definition("struct VirtQueue", ("queue.c",))
    assert layouts.find_variable("queues", "queue.c") is None
    assert not layouts.bundle.searched_absent
    [frame] = layouts.source_of(nm(program)["step"])
    assert (frame.function, frame.file[-6:], frame.line > 0) == ("step", "main.c", True)
    there = layouts_of(program, debug_dirs=[str(build(variant).parent)])
    assert there.definition("struct VirtQueue", ("queue.c",))


def test_what_is_nowhere_is_noted_as_absent(build: Build) -> None:
    layouts = layouts_of(build(SAME_ANSWERS[2]))
    assert layouts.find_definition("struct NoSuchThing") is None
    assert layouts.find_variable("no_such_variable", "queue.c") is None
    assert layouts.find_symbol("no_such_symbol") is None
    assert layouts.bundle.searched_absent == [
        "struct NoSuchThing", "symbol no_such_symbol", "variable queue.c::no_such_variable",
    ]  # fmt: skip
