"""A scan gives each core one row, whatever it lies in, and whatever happens on the way."""

from __future__ import annotations

import json
import os
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

import vringcore
from tests.cli.command import ROOT
from tests.scan import cores
from tests.scan.cores import CODES, member
from vringcore.errors import UsageError
from vringcore.model.values import encode
from vringcore.scan.groups import groups_of
from vringcore.scan.journal import read_rows

if TYPE_CHECKING:
    from vringcore.model.scan import ScanRow

BOTH = ["10.0/idle", "10.0/stuck"]


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "schemas" / f"{kind}-1.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def scanned(*paths: Path | str, **settings: Any) -> dict[tuple[str, str], ScanRow]:
    """Return the rows by key; that each key comes once is checked."""
    with vringcore.scan(*map(str, paths), workers=2, cache=False, **settings) as found:
        rows = list(found)
    by_key = {row.key: row for row in rows}
    assert len(by_key) == len(rows)
    for row in rows:
        validator("scan-row").validate(json.loads(encode(row)))
    return by_key


def codes(rows: dict[tuple[str, str], ScanRow]) -> dict[str, str]:
    """Return the verdicts' codes by the names of files or members."""
    assert all(row.error is None for row in rows.values()), rows
    return {
        (inner or Path(path).name): row.verdict.code if row.verdict else "none"
        for (path, inner), row in rows.items()
    }


def test_a_directory(tmp_path: Path) -> None:
    rows = scanned(cores.copies(tmp_path / "cores"), tables=("devices", "queues", "requests"))
    assert codes(rows) == {member(name): code for name, code in CODES.items()}
    stuck = rows[str(tmp_path / "cores" / member("10.0/stuck")), ""]
    assert stuck.counts is not None
    assert (stuck.counts.queues, stuck.counts.in_flight, stuck.counts.in_use) == (4, 8, 8)
    assert len(stuck.requests or ()) == 8
    assert [queue.in_flight for queue in stuck.queues or ()] == [2, 2, 2, 2]
    assert stuck.vm_name == "lab-vm"
    assert stuck.cost.bytes_read > 0


def test_rows_say_what_the_verbs_say(tmp_path: Path) -> None:
    path = str(cores.dump("7.2/stuck-migration"))
    (row,) = scanned(path, tables=("findings",)).values()
    with vringcore.open_core(path, sysroot=os.devnull) as core:
        report = core.why()
    assert report.verdict
    assert row.verdict is not None
    assert row.verdict
    assert (row.verdict.summary, row.signature) == (report.verdict.summary, report.signature)
    assert [f.code for f in row.findings or ()] == [f.code for f in report.findings or ()]
    assert (row.build_id, row.qemu_version) == (report.core.build_id, report.qemu.version)


@pytest.mark.parametrize(
    ("name", "mode", "raw"),
    [
        ("a.tar", "w", False),
        ("a.tar", "w", True),
        ("a.tar.gz", "w:gz", False),
        ("a.tar.xz", "w:xz", True),
    ],
)
def test_tar_archives(tmp_path: Path, name: str, mode: str, raw: bool) -> None:
    path = cores.tar(tmp_path / name, BOTH, mode, raw=raw)
    assert codes(scanned(path)) == {member(each): CODES[each] for each in BOTH}


@pytest.mark.parametrize(
    ("method", "raw"),
    [(zipfile.ZIP_STORED, False), (zipfile.ZIP_DEFLATED, True), (zipfile.ZIP_BZIP2, False)],
)
def test_zip_archives(tmp_path: Path, method: int, raw: bool) -> None:
    path = cores.zipped(tmp_path / "a.zip", BOTH, method, raw=raw)
    assert codes(scanned(path)) == {member(each): CODES[each] for each in BOTH}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_in_an_archive(tmp_path: Path, method: int) -> None:
    inner = cores.tar(tmp_path / "inner.tar", BOTH)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w", method) as archive:
        archive.write(inner, "inner.tar")
        archive.write(cores.dump("7.2/broken"), "alone")
    found = codes(scanned(tmp_path / "outer.zip"))
    expected = {f"inner.tar!{member(each)}": CODES[each] for each in BOTH}
    assert found == {**expected, "alone": CODES["7.2/broken"]}


def test_a_cut_archive_is_a_row_beside_those_before(tmp_path: Path) -> None:
    path = cores.tar(tmp_path / "a.tar", BOTH)
    path.write_bytes(path.read_bytes()[: 512 + cores.dump(BOTH[0]).stat().st_size + 700])
    rows = scanned(path)
    assert rows[str(path), member(BOTH[0])].error is None
    problem = rows[str(path), ""].error
    assert problem is not None
    assert problem.code == "archive"


def test_damaged_cores_are_rows(tmp_path: Path) -> None:
    whole = cores.unpacked("10.0/stuck")
    (tmp_path / "cut").write_bytes(whole[:3000])
    (tmp_path / "packed").write_bytes(cores.dump("10.0/stuck").read_bytes()[:40])
    (tmp_path / "empty").write_bytes(b"")
    with vringcore.scan(str(tmp_path), workers=1, cache=False) as found:
        rows = {Path(row.path).name: row for row in found}
        assert found.skipped == {"no core": 1}
    assert {name: row.error.code for name, row in rows.items() if row.error} == {
        "cut": "core-format",
        "packed": "core-format",
    }
    packed = rows["packed"].error
    assert packed is not None
    assert "cut before its first byte" in packed.message


def test_words_that_name_nothing_are_refused(tmp_path: Path) -> None:
    for word in (str(tmp_path / "nothing"), str(tmp_path / "*.core")):
        with pytest.raises(UsageError, match="nothing is there"):
            vringcore.scan(word)
    with pytest.raises(UsageError, match="no such setting"):
        vringcore.scan(str(tmp_path), colour="red")


def test_a_file_named_twice_has_one_row(tmp_path: Path) -> None:
    directory = cores.copies(tmp_path / "cores", ["10.0/idle"])
    assert len(scanned(directory, str(directory / "*.core"))) == 1


def test_the_same_input_gives_the_same_rows(tmp_path: Path) -> None:
    directory = cores.copies(tmp_path / "cores")
    texts = []
    for name, workers in (("one", 1), ("two", 2)):
        out = tmp_path / name
        with vringcore.scan(str(directory), out=str(out), workers=workers, cache=False) as found:
            list(found)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        for row in rows:
            del row["cost"]
        texts.append(rows)
    assert texts[0] == texts[1]
    assert [row["path"] for row in texts[0]] == sorted(row["path"] for row in texts[0])


def test_resuming_drops_a_torn_line_and_reads_what_is_missing(tmp_path: Path) -> None:
    directory, out = cores.copies(tmp_path / "cores"), tmp_path / "rows"
    with vringcore.scan(str(directory), out=str(out), workers=1, cache=False) as found:
        list(found)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:2]) + lines[2][:100])
    with pytest.raises(UsageError, match="--resume"):
        vringcore.scan(str(directory), out=str(out))
    with vringcore.scan(str(directory), out=str(out), resume=True, workers=1, cache=False) as found:
        assert len(list(found)) == len(lines) - 2
        assert found.resumed == 2
    again = [json.loads(line)["path"] for line in out.read_text().splitlines()]
    assert again == [json.loads(line)["path"] for line in lines]


def test_a_core_that_changed_is_read_again_and_has_one_row(tmp_path: Path) -> None:
    directory, out = cores.copies(tmp_path / "cores", BOTH), tmp_path / "rows"
    for resume in (False, True):
        scan = vringcore.scan(
            str(directory), out=str(out), resume=resume, workers=1, cache=False, why=False
        )
        with scan as found:
            list(found)
        (directory / member(BOTH[0])).write_bytes(cores.unpacked(BOTH[1]))
    rows = {Path(row.path).name: row for row in read_rows(str(out))}
    assert len(rows) == len(out.read_text().splitlines()) == 2
    assert rows[member(BOTH[0])].vm_name == "lab-vm"


def test_two_scans_do_not_write_to_one_file(tmp_path: Path) -> None:
    out = str(tmp_path / "rows")
    with (
        vringcore.scan(str(cores.dump("10.0/idle")), out=out),
        pytest.raises(UsageError, match="another scan"),
    ):
        vringcore.scan(str(cores.dump("10.0/idle")), out=out, resume=True)


def test_other_files_are_never_taken_for_rows(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.write_text("precious\n")
    with pytest.raises(UsageError, match="something else"):
        vringcore.scan(str(cores.dump("10.0/idle")), out=str(out), resume=True)
    assert out.read_text() == "precious\n"


def test_groups(tmp_path: Path) -> None:
    names = ["10.0/stuck", "7.2/stuck", "10.0/idle", "7.2/stuck-migration", "10.0/stuck-migration"]
    directory = cores.copies(tmp_path / "cores", names)
    (directory / "cut").write_bytes(cores.unpacked("10.0/stuck")[:3000])
    document = groups_of(scanned(directory).values())
    validator("groups").validate(json.loads(encode(document)))
    assert [(g.code, g.count, g.builds, g.state) for g in document.groups] == [
        ("migration-waits-for-drain", 2, 2, "stuck"),
        ("request-not-answered-by-nbd-server", 2, 2, "stuck"),
        ("core-format", 1, 0, "unreadable"),
        ("", 1, 1, "healthy"),
    ]
    assert document.groups[2].signature == "error: core-format"
