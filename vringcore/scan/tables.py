"""Rows as tables: nested values flat, absent ones null, the same columns whatever the rows hold."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from vringcore.errors import UsageError
from vringcore.model import scan as model
from vringcore.model.values import Absent
from vringcore.scan.place import PARTS
from vringcore.scan.remote import missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.model.scan import ScanRow

Cell = str | int | float | bool | None
Columns = dict[str, type]

KEY: Columns = {"path": str, "member": str}
"""What ties the rows of the other tables to the core that they are of."""

_ROWS: dict[str, type[msgspec.Struct]] = {
    "devices": model.RowDevice,
    "queues": model.RowQueue,
    "requests": model.RowRequest,
    "findings": model.RowFinding,
}


def columns_of(table: str = "cores") -> Columns:
    """Return the columns of a table and their types: ``cores``, or one of :data:`PARTS`."""
    if table == "cores":
        return dict(_columns(model.ScanRow, ""))
    return KEY | dict(_columns(_ROWS[table], ""))


def _columns(struct: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, type]]:
    hints = get_type_hints(struct)
    for name in struct.__struct_fields__:
        if struct is model.ScanRow and name in PARTS:  # tables of their own
            continue
        kind = _kind(hints[name])
        if issubclass(kind, msgspec.Struct):
            yield from _columns(kind, f"{prefix}{name}_")
        else:
            yield prefix + name, kind


def _kind(hint: Any) -> type:
    """Return the one type that a column has beside what means that there is nothing."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [each for each in get_args(hint) if each not in _NOTHING]
        return _kind(kinds[0])
    return hint if isinstance(hint, type) else str


_NOTHING = (type(None), Absent, msgspec.UnsetType)


def cells(row: msgspec.Struct, prefix: str = "") -> Iterator[tuple[str, Cell]]:
    """Yield column and value of what a row has."""
    for name in row.__struct_fields__:
        value = getattr(row, name)
        if isinstance(value, msgspec.Struct) and not isinstance(value, Absent):
            yield from cells(value, f"{prefix}{name}_")
        elif not isinstance(value, tuple | Absent | msgspec.UnsetType):
            yield prefix + name, value


def records(rows: Iterable[ScanRow], table: str = "cores") -> Iterator[tuple[Cell, ...]]:
    """Yield the rows of a table, each value in its column's place."""
    columns = columns_of(table)
    for row in rows:
        if table == "cores":
            found = dict(cells(row))
            yield tuple(found.get(name) for name in columns)
            continue
        key: dict[str, Cell] = {"path": row.path, "member": row.member}
        for inner in getattr(row, table) or ():
            found = key | dict(cells(inner))
            yield tuple(found.get(name) for name in columns)


def arrow_table(rows: Iterable[ScanRow], table: str = "cores") -> Any:
    """Return a ``pyarrow.Table``.

    :raises UsageError: if pyarrow is not installed
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise missing("pyarrow", "scan") from error
    columns = columns_of(table)
    types_of = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}
    schema = pa.schema([(name, types_of.get(kind, pa.float64())) for name, kind in columns.items()])
    by_column = list(zip(*records(rows, table), strict=True)) or [() for _ in columns]
    arrays = [pa.array(values, field.type) for values, field in zip(by_column, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def data_frame(rows: Iterable[ScanRow], table: str = "cores") -> Any:
    """Return a ``pandas.DataFrame``.

    :raises UsageError: if pandas is not installed
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError("pandas is not installed", hint="pip install pandas") from error
    return pd.DataFrame.from_records(list(records(rows, table)), columns=list(columns_of(table)))
