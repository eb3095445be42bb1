"""``vringcore block``, and the coroutines of ``vringcore backtrace``, from outside."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.cli.command import ROOT, vringcore
from tests.lab.cases import CoreCase, iter_cores

pytestmark = pytest.mark.lab

CORES = [core for core in iter_cores() if core.case.scenario == "stuck-migration"]
NONE = [pytest.param(None, marks=pytest.mark.skip("no cores: `python -m tests.lab make 7.2`"))]


@pytest.fixture(params=[*CORES] or NONE, ids=lambda core: core.name if core else "none")
def core(request: pytest.FixtureRequest) -> CoreCase:
    assert isinstance(request.param, CoreCase)
    return request.param


def words(verb: str, core: CoreCase, *more: str) -> list[str]:
    return [verb, str(core.path), "-e", str(core.case.executable), *more]


def test_json_is_valid_and_holds_the_block_layer_alone(core: CoreCase) -> None:
    run = vringcore(*words("block", core, "--json"))
    assert (run.returncode, run.stderr) == (0, "")
    report = json.loads(run.stdout)
    schema = json.loads(Path(ROOT, "schemas", "report-1.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(report)
    assert not {"devices", "threads", "coroutines"} & report.keys()
    [backend] = report["block"]["backends"]
    assert (backend["backend"]["in_flight"], backend["backend"]["quiesce_counter"]) == (8, 1)


@pytest.mark.parametrize("width", ["80", "140"])
def test_text_fits_and_tells_what_is_held(core: CoreCase, width: str) -> None:
    run = vringcore(*words("block", core, "-v"), COLUMNS=width)
    assert (run.returncode, run.stderr) == (0, "")
    assert max(map(len, run.stdout.splitlines())) <= int(width)
    lines = vringcore(*words("block", core)).stdout.splitlines()
    assert "NBD client of node nbd0: connected" in lines
    assert any(line.split() == ["requests", "in", "slots", "8"] for line in lines)


def test_coroutines_alone_or_threads_alone(core: CoreCase) -> None:
    both = vringcore(*words("backtrace", core)).stdout
    coroutines = vringcore(*words("backtrace", core, "--coroutines")).stdout
    threads = vringcore(*words("backtrace", core, "--threads")).stdout
    assert ("\nthread " in coroutines, "\ncoroutine " in coroutines) == (False, True)
    assert ("\nthread " in threads, "\ncoroutine " in threads) == (True, False)
    assert both.count("\nthread ") == threads.count("\nthread ")
    report = json.loads(vringcore(*words("backtrace", core, "--coroutines", "--json")).stdout)
    assert "threads" not in report
    assert len(report["coroutines"]) == both.count("\ncoroutine ")
    assert isinstance(report["idle_coroutines"], int)
    assert vringcore(*words("backtrace", core, "--coroutines", "--threads")).returncode == 2
