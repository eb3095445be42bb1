"""Every verb on every core of the lab: valid JSON, whole text, and only the imports it needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.command import ROOT, vringcore
from tests.lab.cases import CoreCase, iter_cores

pytestmark = pytest.mark.lab

VERBS = ("devices", "queues", "requests")
CORES = [core for core in iter_cores() if core.case.manifest["expected"].get("devices")]
NO_CORE = [pytest.param(None, marks=pytest.mark.skip("no cores: `python -m tests.lab make 7.2`"))]

ONE_OF_EACH_BUILD = list({core.case.version: core for core in CORES}.values())
"""Where the build decides, not the incident."""

STANDARD_LIBRARY_KEPT_OUT = {"json", "dataclasses", "tempfile", "subprocess", "shutil", "asyncio"}
LIBRARIES_KEPT_OUT = {"rich", "lief", "elftools", "construct", "zstandard", "lz4", "jinja2"}


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        json.loads((ROOT / "schemas" / name).read_text(encoding="utf-8"))
    )


@pytest.fixture(params=CORES or NO_CORE, ids=lambda core: core.name if core else "none")
def core(request: pytest.FixtureRequest) -> CoreCase:
    assert isinstance(request.param, CoreCase)
    return request.param


def words(core: CoreCase, verb: str, *more: str) -> list[str]:
    return [verb, str(core.path), "-e", str(core.case.executable), *more]


def answer(core: CoreCase, verb: str, *more: str) -> Any:
    run = vringcore(*words(core, verb, *more, "--json"))
    assert run.stderr == ""
    assert run.returncode == 0
    return json.loads(run.stdout)


@pytest.mark.parametrize("verb", VERBS)
def test_reports_are_valid(core: CoreCase, verb: str) -> None:
    report = answer(core, verb)
    validator("report-1.json").validate(report)
    assert len(report["devices"]) == len(core.case.manifest["expected"]["devices"])


def test_rings_are_valid(core: CoreCase) -> None:
    for device in answer(core, "queues")["devices"]:
        for queue in device["queues"][:3]:
            run = vringcore(
                *words(core, "ring", "-d", device["qom_path"], "-q", str(queue["index"]), "--json")
            )
            assert run.returncode in (0, 4)
            validator("ring-1.json").validate(json.loads(run.stdout))


@pytest.mark.parametrize("width", ["80", "140"])
@pytest.mark.parametrize("verb", VERBS)
def test_text_fits(core: CoreCase, verb: str, width: str) -> None:
    run = vringcore(*words(core, verb), COLUMNS=width)
    assert (run.returncode, run.stderr) == (0, "")
    assert max(map(len, run.stdout.splitlines())) <= int(width)


def test_the_table_has_the_numbers_of_the_document(core: CoreCase) -> None:
    lines = vringcore(*words(core, "queues")).stdout.splitlines()
    header = next(line for line in lines if " last_avail_idx " in line)
    columns = header.split()
    at = lines.index(header)
    queues = [
        (device["id"], queue)
        for device in answer(core, "queues")["devices"]
        for queue in device["queues"]
    ]
    for (identity, queue), line in zip(queues, lines[at + 1 :], strict=False):
        cells = re.split(" {2,}", line.removeprefix(">").strip())
        shown = dict(zip(columns, cells, strict=True))
        assert shown["device"] == identity or shown["device"].startswith("#")
        assert shown["queue"] == str(queue["index"])
        for name in ("last_avail_idx", "used_idx"):
            # A position in a packed ring has its wrap counter behind it, one that is stale
            # parentheses around it.
            assert shown[name].strip("()").split()[0] == str(queue[name])


@pytest.mark.parametrize(
    "core", ONE_OF_EACH_BUILD or NO_CORE, ids=lambda core: core.name if core else "none"
)
def test_a_warm_run_imports_only_what_it_needs(core: CoreCase, tmp_path: Path) -> None:
    code = (
        "import sys; from vringcore.cli.main import main;"
        "code = main(sys.argv[1:]); print(*sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *words(core, "queues", "--json")]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    for _ in ("cold", "warm"):
        run = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
    modules = set(run.stderr.split())
    assert modules & STANDARD_LIBRARY_KEPT_OUT == set()
    assert {name.partition(".")[0] for name in modules} & LIBRARIES_KEPT_OUT == set()
    assert not any(name.startswith("vringcore.debuginfo.dwarf") for name in modules)
    assert not any(name.startswith("vringcore.report.") for name in modules)
    others = {"devices", "ring", "requests", "layout"}
    assert not any(f"vringcore.cli.{verb}" in modules for verb in others)
