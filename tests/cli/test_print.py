"""``vringcore print``: answers, formats, documents and mistakes, on a core of the lab."""

from __future__ import annotations

import json
import subprocess

import jsonschema
import pytest

from tests.cli.command import ROOT, vringcore
from tests.lab.cases import CoreCase, iter_cores

pytestmark = pytest.mark.lab

CORE = next((core for core in iter_cores() if core.case.scenario == "nine-devices"), None)


@pytest.fixture
def core() -> CoreCase:
    if CORE is None:
        pytest.skip("no cores: `python -m tests.lab make 7.2`")
    return CORE


def answer(core: CoreCase, *words: str) -> subprocess.CompletedProcess[str]:
    return vringcore("print", str(core.path), "-e", str(core.case.executable), *words)


def lines(core: CoreCase, *words: str) -> list[str]:
    run = answer(core, *words)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.splitlines()


def test_each_expression_has_its_line(core: CoreCase) -> None:
    size, double = lines(core, "current_machine->ram_size", "current_machine->ram_size * 2")
    assert int(size) * 2 == int(double)


def test_formats(core: CoreCase) -> None:
    expression = "current_machine->ram_size"
    plain, inside = lines(core, expression, f"/x {expression}")
    assert inside == f"{int(plain):#x}"
    assert lines(core, "-f", "x", expression) == [inside]
    assert lines(core, "/x", expression, f"/d {expression}") == [inside, plain]


def test_types(core: CoreCase) -> None:
    assert lines(core, "--whatis", "current_machine") == ["type = MachineState *"]
    assert lines(core, "--ptype", "struct VRing")[0] == "type = struct VRing {"
    assert lines(core, "--offsets", "struct VRing")[0].startswith("/* offset      |    size */")


def test_symbols(core: CoreCase) -> None:
    [line] = lines(core, "--symbol", "vm_change_state_head.tqh_first->cb")
    assert line.endswith(f" in section .text of {core.case.executable}")
    assert lines(core, "--symbol", "1") == ["No symbol matches 1."]


def test_documents_are_valid(core: CoreCase) -> None:
    schema = json.loads((ROOT / "schemas" / "value-1.json").read_text(encoding="utf-8"))
    run = answer(core, "--json", "current_machine->smp", "1 + 1", "main", "*current_machine")
    documents = [json.loads(line) for line in run.stdout.splitlines()]
    for document in documents:
        jsonschema.Draft202012Validator(schema).validate(document)
    smp, two, main, _machine = documents
    assert smp["value"]["cpus"] >= 1
    assert (two["value"], two["address"], two["text"]) == (2, None, "2")
    assert "value" not in main


def test_a_mistake_does_not_hide_the_others(core: CoreCase) -> None:
    run = answer(core, "no_such_name", "1 + 1")
    assert run.stdout == "2\n"
    assert run.returncode == 2
    assert "no_such_name" in run.stderr


@pytest.mark.parametrize("words", [("/x",), ("-f", "q", "1"), ("struct VRing",), ("1 +",)])
def test_mistakes_are_usage_errors(core: CoreCase, words: tuple[str, ...]) -> None:
    run = answer(core, *words)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("vringcore: error: ")
