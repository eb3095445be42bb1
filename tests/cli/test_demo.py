"""``vringcore demo``: what it shows is in the core that comes along, and nothing else is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import vringcore as library
from tests.cli.command import ROOT, vringcore
from vringcore.cli.demo import NAME, SAMPLE
from vringcore.errors import EXIT_OK, EXIT_STUCK
from vringcore.layout.store import LayoutStore


@pytest.fixture(scope="module")
def report() -> Any:
    run = vringcore("demo", "--json")
    assert (run.returncode, run.stderr) == (0, "")
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def text() -> str:
    run = vringcore("demo", COLUMNS="100")
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def unfolded(text: str) -> str:
    return " ".join(text.split())


def test_the_document_is_a_whole_report(report: Any) -> None:
    schema = json.loads((ROOT / "schemas" / "report-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(report)
    assert report["limits"] == []
    assert report["core"]["path"] == SAMPLE
    assert report["devices"][0]["queues"]
    assert report["threads"]


def test_the_sample_is_a_migration_that_waits_for_a_stuck_disk(report: Any) -> None:
    assert report["qemu"]["migration"] == "active"
    (disk,) = report["devices"]
    waiting = [r for queue in disk["queues"] for r in queue["in_flight"]]
    assert len(waiting) == sum(queue["in_use"] for queue in disk["queues"]) > 0
    assert {r["waits_in"][-1]["place"] for r in waiting} == {"nbd"}
    (migration,) = (t for t in report["threads"] if t["role"] == "migration")
    assert "bdrv_do_drained_begin" in [frame["function"] for frame in migration["frames"]]
    assert migration["frames_end"] == "outermost"


def test_the_verdict_is_that_of_the_case(report: Any, text: str) -> None:
    verdict = report["verdict"]
    assert (verdict["state"], verdict["code"]) == ("stuck", "migration-waits-for-drain")
    assert verdict["summary"].startswith(
        "The migration waits in vm_stop for the drain of disk0 (virtio-blk), whose 8"
        " requests were sent to the NBD server"
    )
    assert verdict["summary"].endswith("and the monitor does not answer.")
    assert unfolded(verdict["summary"]) in unfolded(text)


def test_what_is_read_from_the_queues_is_in_the_document(report: Any, text: str) -> None:
    queues = report["devices"][0]["queues"]
    total = sum(queue["in_use"] for queue in queues)
    unseen = sum(queue["counts"]["unseen"] for queue in queues)
    said = unfolded(text)
    assert f"=> {len(queues)} of {len(queues)} queues have requests inside QEMU, {total} in" in said
    assert f"{unseen} are left in the rings" in said


def test_the_commands_shown_give_what_is_shown(text: str, tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path / NAME)
    commands = re.findall(r"^\$ vringcore (.*)$", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["why", "queues"]
    for command in commands:
        run = subprocess.run(
            [sys.executable, "-m", "vringcore", *command.split(), "--no-cache"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
            capture_output=True,
            text=True,
        )
        assert run.returncode == (EXIT_STUCK if command.startswith("why") else EXIT_OK)
        shown = text.split(f"$ vringcore {command}\n")[1].split("\n=> ")[0].split("\n$ ")[0]
        assert run.stdout.strip() == shown.strip()


def test_it_fits_a_narrow_terminal() -> None:
    lines = vringcore("demo", COLUMNS="80").stdout.splitlines()
    assert max(len(line) for line in lines if SAMPLE not in line) <= 80


def test_nothing_is_written_and_no_cache_is_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    run = vringcore("demo", HOME=str(home), XDG_CACHE_HOME=str(home), COLUMNS="100")
    assert (run.returncode, run.stderr) == (0, "")
    assert list(home.iterdir()) == []


def test_the_sample_is_small_and_names_no_machine() -> None:
    assert os.path.getsize(SAMPLE) < 100_000
    zstandard = pytest.importorskip("zstandard")
    with open(SAMPLE, "rb") as file:
        data = zstandard.ZstdDecompressor().stream_reader(file).read()
    for text in (b"/root", b"/home", b"/tmp", b"vringcore-lab", b"CANARY"):
        assert text not in data


def test_the_sample_needs_no_other_file(tmp_path: Path) -> None:
    alone = library.open_core(Path(SAMPLE), sysroot=tmp_path / "nothing", store=LayoutStore())
    with alone as core:
        assert core.info.kind == "slim"
        assert core.report().limits == ()
