"""``vringcore precheck`` as its users see it: page, document, exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from tests.cli.command import ROOT, vringcore

DUMP = str(ROOT / "tests" / "dumps" / "7.2" / "stuck-migration" / "core.zst")
NO_RAM = ROOT / "tests" / "dumps" / "7.2" / "no-guest-ram" / "core.zst"
SCHEMA = json.loads((ROOT / "schemas" / "precheck-1.json").read_text(encoding="utf-8"))


def test_a_small_core_on_a_page(tmp_path: Path) -> None:
    run = vringcore("precheck", DUMP, "--sysroot", str(tmp_path))
    assert run.returncode == 4, run.stderr  # it keeps of guest RAM what other answers need
    assert "in-core" in run.stdout
    assert "vringcore slim" not in run.stderr


@pytest.mark.parametrize("core", [DUMP, str(NO_RAM)])
def test_the_document_is_valid(core: str, tmp_path: Path) -> None:
    if not Path(core).exists():
        pytest.skip("no such dump")
    run = vringcore("precheck", core, "--json", "--sysroot", str(tmp_path))
    document = json.loads(run.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["schema"] == "vringcore/precheck/1"
    assert document["program"]["is_qemu"] is True
    answers = {each["verb"]: each["answer"] for each in document["answers"]}
    assert (run.returncode == 0) is (set(answers.values()) == {"yes"})
    if core != DUMP:
        assert answers["ring"] == "no"


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_a_process() -> None:
    run = vringcore("precheck", "--pid", str(os.getpid()), "--json")
    document = json.loads(run.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert run.returncode == 4
    assert document["program"]["is_qemu"] is False
    assert "not a QEMU" in vringcore("precheck", "--pid", str(os.getpid())).stdout


@pytest.mark.parametrize("words", [(), (DUMP, "--pid", "1"), ("--pid", "x"), ("--pid", "0")])
def test_wrong_usage(words: tuple[str, ...]) -> None:
    run = vringcore("precheck", *words)
    assert (run.returncode, run.stdout) == (2, "")


def test_what_is_no_core(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("text")
    assert vringcore("precheck", str(tmp_path / "x")).returncode == 3
