"""``vringcore layout``: bundles made, shown and checked, and used in the place of debug info."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.command import ROOT, vringcore
from tests.lab.cases import CoreCase, iter_cores
from tests.support import programs
from vringcore.cli.bundles import VARIABLES
from vringcore.cli.ctypes import declaration, definition_lines
from vringcore.layout.types import (
    Array,
    Base,
    Enum,
    Function,
    Member,
    Named,
    Pointer,
    Qualified,
    Record,
    Typedef,
    Void,
)

CORES = [
    core
    for core in iter_cores()
    if core.kind == "gcore" and core.case.manifest["expected"].get("devices")
]
EXECUTABLES = sorted({str(core.case.executable) for core in CORES})
NONE = [pytest.param(None, marks=pytest.mark.skip("no cores: `python -m tests.lab make 7.2`"))]

INT = Base("int", 4, "signed")
CHAR = Base("char", 1, "char")


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (INT, "int x"),
        (Pointer(Void()), "void *x"),
        (Pointer(Qualified("const", CHAR)), "const char *x"),
        (Qualified("const", Pointer(CHAR)), "char *const x"),
        (Array(Array(INT, 3), 2), "int x[2][3]"),
        (Array(Pointer(CHAR), None), "char *x[]"),
        (Pointer(Array(INT, 4)), "int (*x)[4]"),
        (Pointer(Function(Void(), (INT, Pointer(CHAR)), True)), "void (*x)(int, char *, ...)"),
        (Function(INT), "int x(void)"),
        (Pointer(Named("struct", "S")), "struct S *x"),
        (Named("typedef", "hwaddr"), "hwaddr x"),
        (Enum(None, 4, False, {"A": 0}), "enum {...} x"),
    ],
)
def test_types_are_written_as_in_c(type_: Any, text: str) -> None:
    assert declaration(type_, "x") == text


def test_definitions_have_offsets_and_sizes() -> None:
    inner = Record("union", None, 4, (Member("a", INT, 0), Member("b", INT, 0, 3, 5)))
    record = Record("struct", "S", 8, (Member(None, inner, 4), Member("call", CHAR, 0)))
    assert definition_lines(record) == [
        "struct S {  /* 8 bytes */",
        "    union {  /* at 4 */",
        "        int a;  /* at 4 */",
        "        int b : 3;  /* at 4, bit 5 */",
        "    };",
        "    char call;  /* at 0 */",
        "};",
    ]
    assert definition_lines(Typedef("T", INT)) == ["typedef int T;"]
    enum = Enum("E", 4, False, {"A": 0, "B": 5})
    assert definition_lines(enum) == ["enum E {  /* 4 bytes */", "    A = 0,", "    B = 5,", "};"]


def test_every_variable_that_is_asked_for_by_file_is_in_a_bundle() -> None:
    """What qemu/ looks up with a file or function is looked up when a bundle is built."""
    asked = set()
    for path in (ROOT / "vringcore" / "qemu").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            words = [ast.literal_eval(a) for a in node.args if isinstance(a, ast.Constant)]
            if node.func.attr in ("address_of", "find_address_of") and len(words) > 1:
                asked.add((*words, "")[:3])
    assert asked == set(VARIABLES)


def test_a_program_without_debug_information_is_told() -> None:
    run = vringcore("layout", "build", "/bin/true", "-o", "/nonexistent/x.json")
    assert run.returncode == 4
    assert "no debug information" in run.stderr
    assert "--debug-file" in run.stderr


def test_what_is_no_bundle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_text("{")
    run = vringcore("layout", "show", str(path))
    assert run.returncode == 3
    assert "damaged" in run.stderr
    assert str(path) in run.stderr


def test_a_bundle_that_is_missing_is_told() -> None:
    run = vringcore("layout", "check", "/nonexistent/bundle.json", sys.executable)
    assert run.returncode == 3
    assert "/nonexistent/bundle.json" in run.stderr


class Made(dict[str, Path]):
    """Files made from programs when first asked for: ``made[executable]``."""

    def __init__(self, make: Callable[[str], Path]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, executable: str) -> Path:
        self[executable] = made = self._make(executable)
        return made


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle of each program of the lab."""

    def make(executable: str) -> Path:
        path = tmp_path_factory.mktemp("bundles") / "qemu.json"
        run = vringcore("layout", "build", executable, "-o", str(path))
        assert (run.returncode, run.stderr) == (0, "")
        return path

    return Made(make)


@pytest.mark.lab
@pytest.mark.parametrize("executable", EXECUTABLES or NONE)
def test_a_bundle_is_valid_and_true_of_its_program(executable: str, bundles: Made) -> None:
    path = bundles[executable]
    schema = json.loads((ROOT / "schemas" / "layout-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text()))
    run = vringcore("layout", "check", str(path), executable, "--json")
    assert run.returncode == 0, run.stdout
    document = json.loads(run.stdout)
    schema = json.loads((ROOT / "schemas" / "layout-check-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["differences"] == []
    assert document["types"] > 100
    assert document["symbols"] > 10000
    shown = vringcore("layout", "show", str(path), "--type", "struct VirtQueue")
    assert "uint16_t last_avail_idx;" in shown.stdout


@pytest.mark.lab
@pytest.mark.parametrize("executable", EXECUTABLES or NONE)
def test_a_wrong_bundle_is_noticed(executable: str, bundles: Made, tmp_path: Path) -> None:
    bundle = json.loads(bundles[executable].read_text())
    members = bundle["types"]["struct VirtQueue"]["definition"]["members"]
    members[1]["offset"] += 8
    bundle["variables"]["qemu_name"]["address"] += 8
    address = next(iter(bundle["symbols_at"]))
    bundle["symbols_at"][address]["name"] = "elsewhere"
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(bundle))
    run = vringcore("layout", "check", str(path), executable)
    assert run.returncode == 3
    assert "struct VirtQueue is another in the program" in run.stdout
    assert "variable qemu_name is elsewhere in the program" in run.stdout
    assert "symbol elsewhere is not at" in run.stdout


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each program of the lab as a distribution ships it: the same build-id, no debug info."""

    def make(executable: str) -> Path:
        return programs.stripped(Path(executable), tmp_path_factory.mktemp("stripped"))

    return Made(make)


@pytest.mark.lab
@pytest.mark.parametrize("core", CORES or NONE, ids=lambda core: core.name if core else "none")
def test_a_bundle_answers_what_debug_information_answers(
    core: CoreCase, bundles: Made, stripped: Made
) -> None:
    executable = str(core.case.executable)
    site = ["--layout", str(bundles[executable]), "-e", str(stripped[executable]), "--no-cache"]
    for verb in ("queues", "requests"):
        given = vringcore(verb, str(core.path), "-e", executable, "--json")
        alone = vringcore(verb, str(core.path), *site, "--json")
        assert (alone.returncode, alone.stderr) == (0, "")
        expected, found = json.loads(given.stdout), json.loads(alone.stdout)
        assert found["devices"] == expected["devices"]
        assert found["qemu"] == expected["qemu"]
        assert found["limits"] == expected["limits"]
        for device, other in zip(found["devices"], expected["devices"], strict=True):
            handlers = [queue["handle_output"] for queue in device["queues"]]
            assert handlers == [queue["handle_output"] for queue in other["queues"]]


AROUND = [core for core in CORES if core.case.scenario in ("nine-devices", "stuck-throttle")]


@pytest.mark.lab
@pytest.mark.parametrize("core", AROUND or NONE, ids=lambda core: core.name if core else "none")
def test_a_bundle_answers_for_what_lies_around_the_devices(
    core: CoreCase, bundles: Made, stripped: Made
) -> None:
    executable = str(core.case.executable)
    site = ["--layout", str(bundles[executable]), "-e", str(stripped[executable]), "--no-cache"]
    for verb, parts in (("loops", ("event_loops", "machine")), ("block", ("block",))):
        given = json.loads(vringcore(verb, str(core.path), "-e", executable, "--json").stdout)
        alone = json.loads(vringcore(verb, str(core.path), *site, "--json").stdout)
        assert [alone[part] for part in parts] == [given[part] for part in parts]
        assert alone["limits"] == given["limits"]


@pytest.mark.lab
@pytest.mark.parametrize("core", CORES[:1] or NONE, ids=lambda core: core.name if core else "none")
def test_core_and_bundle_alone_still_show_the_queues(
    core: CoreCase, bundles: Made, tmp_path: Path
) -> None:
    """The sysroot is empty, so no binary is found: only its strings are lost."""
    executable = str(core.case.executable)
    site = ["--layout", str(bundles[executable]), "--sysroot", str(tmp_path), "--no-cache"]
    for verb in ("queues", "devices"):
        given = vringcore(verb, str(core.path), "-e", executable, "--json")
        alone = vringcore(verb, str(core.path), *site, "--json")
        assert (alone.returncode, alone.stderr) == (0, "")
        found, expected = json.loads(alone.stdout)["devices"], json.loads(given.stdout)["devices"]
        assert [d.get("queues") for d in found] == [d.get("queues") for d in expected]
    for device, other in zip(found, expected, strict=True):
        if device["backend"] is not None:
            # Its literal is out of reach, the name of the driver's variable is not.
            assert device["backend"]["driver"] == other["backend"]["driver"]
