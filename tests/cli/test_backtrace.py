"""``vringcore backtrace`` from outside."""

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


def words(core: CoreCase, *more: str) -> list[str]:
    return ["backtrace", str(core.path), "-e", str(core.case.executable), *more]


def test_json_is_valid_and_holds_threads_alone(core: CoreCase) -> None:
    run = vringcore(*words(core, "--json"))
    assert (run.returncode, run.stderr) == (0, "")
    report = json.loads(run.stdout)
    schema = json.loads(Path(ROOT, "schemas", "report-1.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(report)
    assert "devices" not in report
    assert len(report["threads"]) == report["core"]["threads"]


def test_the_migration_waits_for_a_drain(core: CoreCase) -> None:
    report = json.loads(vringcore(*words(core, "--json")).stdout)
    [migration] = [t for t in report["threads"] if t["role"] == "migration"]
    functions = [frame["function"] for frame in migration["frames"]]
    wanted = ["aio_poll", "bdrv_do_drained_begin", "migration_thread"]
    assert list(dict.fromkeys(name for name in functions if name in wanted)) == wanted
    # An event loop waits in io_uring where QEMU 10.2 could set that up.
    assert migration["system_call"]["name"] in ("ppoll", "io_uring_enter")
    [main] = [t for t in report["threads"] if t["role"] == "main-loop"]
    lock = main["system_call"]["arguments"]["address"]["symbol"]
    assert lock in ("qemu_global_mutex", "bql")


def test_one_thread_may_be_chosen(core: CoreCase) -> None:
    everything = json.loads(vringcore(*words(core, "--json")).stdout)["threads"]
    chosen = everything[-1]
    run = vringcore(*words(core, "--json", "--thread", str(chosen["lwp"])))
    assert json.loads(run.stdout)["threads"] == [chosen]
    text = vringcore(*words(core, "--thread", str(chosen["lwp"]), "-v")).stdout
    assert text.count("\nthread ") == 1
    assert chosen["frames"][0]["pc"] in text


def test_a_thread_that_is_not_there_is_a_wrong_use(core: CoreCase) -> None:
    run = vringcore(*words(core, "--thread", "1"))
    assert (run.returncode, run.stdout) == (2, "")
    assert "no thread 1" in run.stderr


@pytest.mark.parametrize("width", ["80", "140"])
def test_text_fits(core: CoreCase, width: str) -> None:
    run = vringcore(*words(core, "-v"), COLUMNS=width)
    assert (run.returncode, run.stderr) == (0, "")
    assert max(map(len, run.stdout.splitlines())) <= int(width)
    plain = vringcore(*words(core)).stdout
    assert "bdrv_do_drained_begin" in plain
    assert "\x1b" not in plain
