"""``vringcore why``: the answer, its exit code, and what a code means."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.cli.command import ROOT, vringcore
from tests.cores import dumps
from tests.lab.cases import NOWHERE, CoreCase
from vringcore.diagnose.rules import RULES
from vringcore.errors import EXIT_OK, EXIT_STUCK, EXIT_USAGE

CODES = {"stuck-migration": EXIT_STUCK, "io-error": EXIT_STUCK, "idle": EXIT_OK, "paused": EXIT_OK}


def expected(core: CoreCase) -> bool:
    return core.case.scenario in CODES and core.kind == "gcore"


@pytest.fixture(params=dumps(expected))
def core(request: pytest.FixtureRequest) -> CoreCase:
    found: CoreCase = request.param
    return found


def ask(core: CoreCase, *more: str, columns: str = "") -> Any:
    return vringcore("why", str(core.path), "--sysroot", NOWHERE, *more, COLUMNS=columns)


def test_the_exit_code_says_whether_anything_is_stuck(core: CoreCase) -> None:
    run = ask(core)
    assert (run.returncode, run.stderr) == (CODES[core.case.scenario], "")


def test_json_is_the_report_with_its_verdict(core: CoreCase) -> None:
    document = json.loads(ask(core, "--json").stdout)
    schema = json.loads((ROOT / "schemas" / "report-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert {"verdict", "findings", "wait_for", "signature", "threads", "block"} <= document.keys()
    assert bool(document["signature"]) == (document["verdict"]["state"] == "stuck")


def test_the_sentence_comes_first(core: CoreCase) -> None:
    summary = json.loads(ask(core, "--json").stdout)["verdict"]["summary"]
    assert ask(core).stdout.splitlines()[2] == summary


@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_text_fits(core: CoreCase, width: str) -> None:
    assert max(map(len, ask(core, "-v", columns=width).stdout.splitlines())) <= int(width)


def test_colour_is_for_terminals(core: CoreCase) -> None:
    assert "\x1b" not in ask(core).stdout
    assert "\x1b[1" in ask(core, "--color", "always").stdout


@pytest.mark.parametrize("code", [each.code for each in RULES])
def test_every_code_is_explained_without_a_core(code: str) -> None:
    run = vringcore("why", "--explain", code)
    assert (run.returncode, run.stderr) == (EXIT_OK, "")
    assert run.stdout.startswith(f"{code}\n\n")
    assert "Wrong if:" in run.stdout


def test_a_code_that_is_not_there_is_a_wrong_use() -> None:
    run = vringcore("why", "--explain", "no-such-code")
    assert run.returncode == EXIT_USAGE
    assert "kick-not-seen" in run.stderr


def test_no_core_is_a_wrong_use() -> None:
    assert vringcore("why").returncode == EXIT_USAGE
