"""Rows as tables of other tools: the same numbers in each."""

from __future__ import annotations

import csv
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

import vringcore
from tests.scan import cores
from vringcore.errors import UsageError
from vringcore.scan.export import export
from vringcore.scan.tables import columns_of

if TYPE_CHECKING:
    from pathlib import Path

    from vringcore.model.scan import ScanRow

NAMES = ["10.0/idle", "10.0/stuck", "7.2/broken"]
TABLES = ("devices", "queues", "requests", "findings")
HEADS = [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[ScanRow]:
    directory = cores.copies(tmp_path_factory.mktemp("tables") / "cores", NAMES)
    (directory / "cut").write_bytes(cores.unpacked("10.0/stuck")[:3000])
    with vringcore.scan(str(directory), workers=1, cache=False, tables=TABLES) as found:
        return sorted(found, key=lambda row: row.key)


def codes(rows: list[ScanRow]) -> list[str | None]:
    return [row.verdict.code if row.verdict else None for row in rows]


def test_sqlite(rows: list[ScanRow], tmp_path: Path) -> None:
    path = tmp_path / "rows.sqlite"
    export(rows, str(path), TABLES)
    with sqlite3.connect(path) as database:
        found = database.execute('SELECT verdict_code FROM "cores"').fetchall()
        stuck = 'SELECT head FROM requests WHERE path LIKE "%10.0-stuck%" ORDER BY head'
        assert [head for (head,) in database.execute(stuck)] == HEADS
        absent = database.execute(
            "SELECT error_code, qemu_version FROM cores WHERE path LIKE '%cut'"
        )
        assert absent.fetchall() == [("core-format", None)]
    database.close()
    assert [code for (code,) in found] == codes(rows)


def test_csv(rows: list[ScanRow], tmp_path: Path) -> None:
    export(rows, str(tmp_path / "rows.csv"), ("queues",))
    with open(tmp_path / "rows.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["verdict_code"] for row in found] == [code or "" for code in codes(rows)]
    assert list(found[0]) == list(columns_of())
    assert (tmp_path / "rows.queues.csv").exists()


def test_parquet(rows: list[ScanRow], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'vringcore[scan]'")
    export(rows, str(tmp_path / "rows.parquet"), ("requests",))
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.column("verdict_code").to_pylist() == codes(rows)
    assert str(table.schema.field("counts_queues").type) == "int64"
    requests = parquet.read_table(tmp_path / "rows.requests.parquet")
    mine = [r for r in requests.to_pylist() if "10.0-stuck" in r["path"]]
    assert sorted(r["head"] for r in mine) == HEADS


def test_duckdb(rows: list[ScanRow], tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="pip install 'vringcore[scan]'")
    path = str(tmp_path / "rows.duckdb")
    export(rows, path, TABLES)
    export(rows, path, TABLES)  # what is there is replaced
    database: Any = duckdb.connect(path, read_only=True)
    found = database.execute("SELECT verdict_code FROM cores ORDER BY path, member").fetchall()
    assert [code for (code,) in found] == codes(rows)
    assert database.execute("SELECT count(*) FROM findings WHERE severity = 'stuck'").fetchone()[0]
    database.close()


def test_an_unknown_format_is_refused(rows: list[ScanRow], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.parquet"):
        export(rows, str(tmp_path / "rows.xls"))


@pytest.mark.filterwarnings("ignore")
def test_pandas_and_arrow_in_one_call() -> None:
    pytest.importorskip("pandas", reason="pip install pandas")
    pytest.importorskip("pyarrow", reason="pip install 'vringcore[scan]'")
    path = str(cores.dump("10.0/stuck"))
    with vringcore.scan(path, workers=1, cache=False) as found:
        frame = found.to_pandas()
    assert frame["counts_in_flight"].tolist() == [8]
    with vringcore.scan(path, workers=1, cache=False, why=False) as found:
        assert found.to_arrow().column("vm_name").to_pylist() == ["lab-vm"]
