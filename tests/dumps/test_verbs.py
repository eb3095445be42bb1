"""Every verb on every dump, as the command line runs it: valid JSON, and text that fits."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tests.cli.command import ROOT
from tests.cores import dumps
from tests.lab.cases import NOWHERE
from vringcore.cli.main import main

if TYPE_CHECKING:
    from tests.lab.cases import CoreCase

VERBS = ("devices", "queues", "requests", "backtrace")


@cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "schemas" / "report-1.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def said(capfd: pytest.CaptureFixture[str], core: CoreCase, verb: str, *more: str) -> str:
    code = main([verb, str(core.path), "--sysroot", NOWHERE, "--no-cache", *more])
    out, err = capfd.readouterr()
    assert (code, err) == (0, "")
    return out


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("core", dumps())
def test_reports_are_valid(core: CoreCase, verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    report: Any = json.loads(said(capfd, core, verb, "--json"))
    validator().validate(report)
    if verb == "backtrace":
        assert {thread["lwp"] for thread in report["threads"]} == {f["lwp"] for f in core.frames}
    else:
        assert len(report["devices"]) == len(core.gdb["devices"])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("core", dumps())
def test_text_fits(
    core: CoreCase,
    verb: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, said(capfd, core, verb).splitlines())) <= 80
