"""Writes the JSON Schemas of all documents: ``python -m vringcore.cli.schemas DIRECTORY``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from vringcore.layout.bundle import Bundle, Typed
from vringcore.layout.pack import Pack
from vringcore.model.compare import CompareDocument
from vringcore.model.driver import DriverDocument
from vringcore.model.error import ErrorDocument
from vringcore.model.layout_check import LayoutCheck
from vringcore.model.memory import MemoryDocument
from vringcore.model.precheck import PrecheckDocument
from vringcore.model.report import Report, RingDocument
from vringcore.model.scan import GroupsDocument, ScanRow
from vringcore.model.schema import document_name, document_schema
from vringcore.model.slim import SlimDocument
from vringcore.model.value import ValueDocument

DOCUMENTS: tuple[type[msgspec.Struct], ...] = (
    Bundle,
    CompareDocument,
    DriverDocument,
    ErrorDocument,
    GroupsDocument,
    LayoutCheck,
    MemoryDocument,
    Pack,
    PrecheckDocument,
    Report,
    RingDocument,
    ScanRow,
    SlimDocument,
    ValueDocument,
)
"""Every document that a verb prints or reads."""


def schema_files() -> dict[str, str]:
    """Return the text of each schema file by its name: ``report-1.json`` …"""
    files = {}
    for document in DOCUMENTS:
        member = next(f for f in msgspec.structs.fields(document) if f.name == "schema")
        name = document_name(member)
        _, kind, version = name.split("/")
        schema = document_schema(document, name, raw=Typed if document in (Bundle, Pack) else None)
        files[f"{kind}-{version}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return files


def main(directory: str) -> None:
    """Write every schema file into ``directory``."""
    for name, text in schema_files().items():
        (Path(directory) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
