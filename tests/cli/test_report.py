"""``vringcore report``: where the page goes, and what is said of it."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import vringcore
from tests.lab.cases import NOWHERE, CoreCase
from tests.report.pages import dump
from vringcore.errors import EXIT_OK, EXIT_UNREADABLE, EXIT_USAGE


@pytest.fixture(scope="module")
def core() -> CoreCase:
    return dump("7.2/stuck-migration")


def ask(core: CoreCase, *more: str) -> Any:
    return vringcore("report", str(core.path), "--sysroot", NOWHERE, *more)


def test_the_page_is_written_whole_and_for_its_owner_alone(core: CoreCase, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run = ask(core, "-o", str(page))
    assert (run.returncode, run.stderr) == (EXIT_OK, "")
    assert run.stdout == f"{page}: {page.stat().st_size} bytes\n"
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [page]


def test_standard_output_has_the_same_page(core: CoreCase, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ask(core, "-o", str(page))
    assert ask(core, "-o", "-").stdout == page.read_text(encoding="utf-8")


def test_json_is_the_report_beside_the_page(core: CoreCase, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    document = json.loads(ask(core, "-o", str(page), "--json").stdout)
    assert document["schema"] == "vringcore/report/1"
    assert document["verdict"]["summary"] in page.read_text(encoding="utf-8")


def test_json_and_the_page_do_not_share_one_place(core: CoreCase) -> None:
    assert ask(core, "-o", "-", "--json").returncode == EXIT_USAGE


def test_where_the_page_goes_must_be_said(core: CoreCase) -> None:
    run = ask(core)
    assert run.returncode == EXIT_USAGE
    assert "--output" in run.stderr


def test_the_core_is_not_replaced(core: CoreCase, tmp_path: Path) -> None:
    copy = tmp_path / "core.zst"
    shutil.copy(core.path, copy)
    before = copy.read_bytes()
    run = vringcore("report", str(copy), "--sysroot", NOWHERE, "-o", str(copy))
    assert run.returncode == EXIT_UNREADABLE
    assert "the very file that is read" in run.stderr
    assert copy.read_bytes() == before


def test_a_page_that_cannot_be_written_is_an_error(core: CoreCase, tmp_path: Path) -> None:
    run = ask(core, "-o", str(tmp_path / "none" / "page.html"))
    assert run.returncode == EXIT_UNREADABLE
    assert "the page cannot be written" in run.stderr
