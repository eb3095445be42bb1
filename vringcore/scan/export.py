"""Rows in the formats of other tools: Parquet, DuckDB, SQLite, CSV."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vringcore.errors import FileError, UsageError
from vringcore.scan.remote import missing
from vringcore.scan.tables import arrow_table, columns_of, records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.scan import ScanRow

_SQL = {str: "TEXT", int: "BIGINT", bool: "BOOLEAN", float: "DOUBLE"}


def check(path: str) -> None:
    """Refuse a file whose name does not say a format, or whose package is not installed.

    :raises UsageError: then
    """
    ending = _ending(path)
    for package in {".parquet": "pyarrow", ".duckdb": "duckdb"}.get(ending, "").split():
        try:
            __import__(package)
        except ImportError as error:
            raise missing(package, "scan") from error


def export(rows: Sequence[ScanRow], path: str, tables: Sequence[str] = ()) -> None:
    """Write rows to a file, whole or not at all; one that is there is replaced.

    A database has a table ``cores`` and one for each of ``tables``; of the others, each of
    ``tables`` is a file of its own: ``rows.queues.parquet``.

    :param path: its ending says the format: .parquet, .duckdb, .sqlite, .csv
    :raises UsageError: if the format is not known, or its package is not installed
    :raises FileError: if it cannot be written
    """
    check(path)
    ending = _ending(path)
    if ending in (".duckdb", ".sqlite"):
        _write(path, lambda scratch: _database(ending, rows, scratch, tables))
        return
    for table in ("cores", *tables):
        stem = path.removesuffix(ending)
        target = path if table == "cores" else f"{stem}.{table}{ending}"
        _write(target, lambda scratch, table=table: _WRITERS[ending](rows, scratch, table))


def _ending(path: str) -> str:
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122
    if ending not in (".duckdb", ".sqlite", *_WRITERS):
        raise UsageError(
            "no such format is known for rows",
            seen=path,
            expected="a name that ends in .parquet, .duckdb, .sqlite or .csv",
        )
    return ending


def _write(path: str, write: Any) -> None:
    scratch = f"{path}.{os.getpid()}.tmp"
    try:
        write(scratch)
        os.replace(scratch, path)  # noqa: PTH105
    except _failures() as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError("the rows cannot be exported", where=path, seen=reason) from error
    finally:
        for left in (scratch, f"{scratch}.wal", f"{scratch}-journal"):  # databases write beside
            with suppress(OSError):
                os.unlink(left)  # noqa: PTH108


def _failures() -> tuple[type[Exception], ...]:
    """Return what those that write raise: the system's errors, and the databases' own."""
    used = (sys.modules[name] for name in ("sqlite3", "duckdb") if name in sys.modules)
    return OSError, *(module.Error for module in used)


def _parquet(rows: Sequence[ScanRow], path: str, table: str) -> None:
    from pyarrow import parquet

    parquet.write_table(arrow_table(rows, table), path, compression="zstd")


def _csv(rows: Sequence[ScanRow], path: str, table: str) -> None:
    import csv

    with open(path, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
        writer = csv.writer(file)
        writer.writerow(columns_of(table))
        writer.writerows(records(rows, table))


_WRITERS = {".parquet": _parquet, ".csv": _csv}


def _database(ending: str, rows: Sequence[ScanRow], path: str, tables: Sequence[str]) -> None:
    if ending == ".sqlite":
        import sqlite3

        database: Any = sqlite3.connect(path)
    else:
        import duckdb

        database = duckdb.connect(path)
    try:
        for table in ("cores", *tables):
            if ending == ".duckdb":
                # Inserting row by row takes DuckDB a millisecond each; Arrow it takes whole.
                database.register("given", arrow_table(rows, table))
                database.execute(f'CREATE TABLE "{table}" AS SELECT * FROM given')  # noqa: S608
                database.unregister("given")
            else:
                _fill(database, rows, table)
        database.commit()
    finally:
        database.close()


def _fill(database: Any, rows: Sequence[ScanRow], table: str) -> None:
    columns = columns_of(table)
    declared = ", ".join(f'"{name}" {_SQL[kind]}' for name, kind in columns.items())
    database.execute(f'CREATE TABLE "{table}" ({declared})')
    marks = ", ".join("?" for _ in columns)
    database.executemany(f'INSERT INTO "{table}" VALUES ({marks})', records(rows, table))  # noqa: S608
