"""Variables, functions, enumerators and members of real QEMUs, sampled, as gdb evaluates them."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.expr.program import ask_gdb
from tests.expr.test_evaluate import our_answer, same
from tests.expr.test_print_lab import NO_CORE, one_of_each_version
from tests.qemu.support import open_lab
from vringcore.errors import LayoutMissingError, VringcoreError
from vringcore.expr.evaluate import evaluate
from vringcore.layout.types import Array, Base, Enum, Pointer, Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.cases import CoreCase
    from vringcore.expr.cvalue import CValue
    from vringcore.qemu.process import Process

pytestmark = pytest.mark.lab

OF_NUMBERS = (
    "{}", "-{}", "~{}", "!{}", "{} + 1", "{} * 3 - 7", "{} / 3", "{} % 10", "{} << 3", "{} >> 2",
    "{} & 0xff", "{} | 1u", "{} ^ -1l", "{} == 0", "{} < 5", "{} > -1", "{} ? 1 : 2l", "(char){}",
    "(unsigned short){}", "(long){}", "(_Bool){}", "(void *){}", "sizeof {}", "{} && 1",
)  # fmt: skip
OF_POINTERS = (
    "{}", "!{}", "{} + 1", "{} - 2", "{} == 0", "{} != {}", "&{}[1]", "(char *){} + 1", "(long){}",
    "{} - {}", "{} > 4096", "sizeof *{}", "*&{}", "{} || 0",
)  # fmt: skip
OF_PLACES = ("&{}", "sizeof {}", "sizeof({})", "(char *)&{} + sizeof {}")
MAX_DEPTH = 3


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


def compare(
    process: Process, case: CoreCase, asked: list[str], scratch: Path, known: float = 0.8
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return the expressions that gdb answers differently, with both answers."""
    asked = list(dict.fromkeys(asked))
    theirs = ask_gdb(case.case.executable, case.path, asked, scratch)
    assert sum("error" not in answer for answer in theirs) > known * len(asked)
    ours = [our_answer(process.views, text) for text in asked]
    rows = zip(asked, ours, theirs, strict=True)
    return [row for row in rows if not same(row[1], row[2])]


def known_alike(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Tell whether answers agree as far as gdb knows.

    It takes the type from a declaration where we have the definition, so `[]` and `const` differ,
    and misses some of what link-time optimisation and aliases made.
    """
    if "optimized out" in theirs.get("error", "") or "error" in ours:
        return "error" in theirs
    if "no debug info" in theirs.get("type", ""):
        return ours["integer"] == theirs["integer"]
    shortened = [
        {**answer, "type": re.sub(r"\[\d+\]", "[]", answer.get("type", "")).replace("const ", "")}
        for answer in (ours, theirs)
    ]
    return shortened[0] == shortened[1]


def sample(process: Process, kind: str, count: int) -> list[str]:
    names = sorted(set(process.views.layouts.names(kind)))
    return random.Random(7).sample(names, count)


def test_variables(process: Process, core: CoreCase, tmp_path: Path) -> None:
    names = sample(process, "variable", 600)
    # The first thread's, of which every one has its own.
    names += [n for n in process.views.layouts.names("variable") if n.startswith("co_tls_")]
    asked = [f"&{name}" for name in names]
    several = []
    for text, ours, theirs in compare(process, core, asked, tmp_path):
        if "more than one" in ours.get("error", ""):
            files = re.search(r"one each in (.*?)(?: and others)?;", ours["error"])
            assert files is not None
            several += [f"&'{file}'::{text[1:]}" for file in files[1].split(", ")]
        elif "error" not in theirs:
            assert known_alike(ours, theirs), (text, ours, theirs)
    assert several
    assert compare(process, core, several, tmp_path) == []


def test_functions(process: Process, core: CoreCase, tmp_path: Path) -> None:
    # Half of them are inlined everywhere.
    asked = [f"(long)&{name}" for name in sample(process, "function", 200)]
    for text, ours, _theirs in compare(process, core, asked, tmp_path, known=0.4):
        # gdb takes the first of several, and looks into libraries too.
        assert "more than one" in ours["error"] or "no more of it" in ours["error"], text


def test_enumerators(process: Process, core: CoreCase, tmp_path: Path) -> None:
    asked = []
    for name in sample(process, "enum", 40):
        enum = process.views.layouts.find_definition(f"enum {name}")
        if isinstance(enum, Enum):
            asked += list(enum.enumerators)[:3]
    assert len(asked) > 80
    assert compare(process, core, asked, tmp_path) == []


def test_members_and_operators(
    process: Process,
    core: CoreCase,
    tmp_path: Path,
) -> None:
    """From global variables down through members and pointers, and operators on what is there."""
    chance = random.Random(11)
    asked: list[str] = []
    roots = [
        "vm_change_state_head.tqh_first", "main_system_bus", "current_machine", "block_backends",
        "mon_list", "qemu_aio_context", "current_migration", "ram_list", "address_space_memory",
        *sample(process, "variable", 120),
    ]  # fmt: skip
    for root in roots:
        try:
            value = evaluate(process.views, root)
        except VringcoreError:
            continue
        asked += list(expressions_below(process, root, value, chance, MAX_DEPTH))
    chosen = chance.sample(asked, min(3000, len(asked)))
    assert len(chosen) > 1500
    for text, ours, theirs in compare(process, core, chosen, tmp_path):
        assert known_alike(ours, theirs), (text, ours, theirs)


def expressions_below(
    process: Process,
    text: str,
    value: CValue,
    chance: random.Random,
    depth: int,
) -> Any:
    """Yield expressions on a place, then on parts of it."""
    layouts = process.views.layouts
    try:
        type_ = layouts.resolve(value.type)
        target = layouts.resolve(type_.to) if isinstance(type_, Pointer) else type_
    except LayoutMissingError:
        return  # Nobody has its definition, gdb neither.
    if value.bits is None:
        yield from (form.replace("{}", text) for form in OF_PLACES)
    if isinstance(type_, Base | Enum):
        if not (isinstance(type_, Base) and type_.encoding == "bool"):
            yield from (form.replace("{}", text) for form in OF_NUMBERS if type_.size <= 8)
        return
    if isinstance(type_, Pointer):
        yield from (form.replace("{}", text) for form in OF_POINTERS)
    parts = []
    if isinstance(target, Record):
        names = [member.name for member in target.members if member.name]
        parts = [f"{text}.{n}" if chance.random() < 0.5 else f"{text}->{n}" for n in names]
    elif isinstance(target, Array):
        parts = [f"{text}[0]", f"*{text}"]
    for part in chance.sample(parts, min(4, len(parts))) if depth else ():
        try:
            inner = evaluate(process.views, part)
        except VringcoreError:
            continue
        shown = f"({part})" if part.startswith("*") else part
        yield from expressions_below(process, shown, inner, chance, depth - 1)
