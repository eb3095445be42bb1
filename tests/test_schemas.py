"""The files in schemas/ are generated, current, and true of every document there can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.report.strategies import any_of
from vringcore.cli.schemas import DOCUMENTS, schema_files
from vringcore.layout.bundle import Bundle, Typed, put_type, to_json
from vringcore.layout.pack import Pack
from vringcore.layout.types import (
    Array,
    Base,
    Code,
    Enum,
    Function,
    Member,
    Named,
    Pointer,
    Qualified,
    Record,
    SourceFrame,
    Symbol,
    Typedef,
    Variable,
    Void,
)
from vringcore.model.devices import Device
from vringcore.model.queues import Queue
from vringcore.model.report import Report
from vringcore.model.schema import document_schema
from vringcore.model.values import encode

NOT_PRINTED = (Bundle, Pack)
"""Read, and written to files alone."""

PRINTED = tuple(document for document in DOCUMENTS if document not in NOT_PRINTED)
SCHEMAS = Path(__file__).parent.parent / "schemas"


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", sorted(schema_files()))
def test_files_are_what_the_generator_writes(name: str) -> None:
    assert (SCHEMAS / name).read_text(encoding="utf-8") == schema_files()[name], (
        "run `python -m vringcore.cli.schemas schemas/`"
    )


def test_no_schema_file_is_left_over() -> None:
    assert sorted(path.name for path in SCHEMAS.glob("*.json")) == sorted(schema_files())


@pytest.mark.parametrize("document", PRINTED, ids=lambda document: document.__name__)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_document_is_valid(document: type[msgspec.Struct], data: st.DataObject) -> None:
    value = data.draw(any_of(document))
    _, kind, version = value.schema.split("/")
    validator(f"{kind}-{version}.json").validate(json.loads(encode(value)))


def definitions() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SCHEMAS / "report-1.json").read_text())["$defs"]
    return loaded


def test_a_key_that_may_not_be_asked_for_is_not_required() -> None:
    queue = definitions()["Queue"]
    assert {"fields", "guest", "counts", "in_flight"}.isdisjoint(queue["required"])
    assert {"index", "last_avail_idx", "unknown_members"} <= set(queue["required"])


def test_defaults_that_are_left_out_are_not_required() -> None:
    assert definitions()["Absent"]["required"] == ["absent"]


def test_addresses_are_hex_strings() -> None:
    assert definitions()["Device"]["properties"]["address"] == {
        "type": "string",
        "pattern": "^0x[0-9a-f]+$",
    }


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": "vringcore/report/2"},
        {"devices": [{}]},
        {"devices": None},
        {"core": {"absent": "not-dumped"}},
    ],
)
@given(data=st.data())
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_damaged_report_is_refused(damage: dict[str, Any], data: st.DataObject) -> None:
    report = json.loads(encode(data.draw(any_of(Report))))
    with pytest.raises(jsonschema.ValidationError):
        validator("report-1.json").validate({**report, **damage})


def test_every_struct_and_document_is_described() -> None:
    for text in schema_files().values():
        schema = json.loads(text)
        assert schema["description"]
        for name, definition in schema["$defs"].items():
            assert definition.get("description"), name


def test_a_type_without_a_json_form_is_refused() -> None:
    class Odd(msgspec.Struct):
        """Odd."""

        what: complex
        schema: str = "vringcore/odd/1"

    with pytest.raises(TypeError, match="complex"):
        document_schema(Odd, "vringcore/odd/1")


def test_the_model_has_what_the_contract_names() -> None:
    """The keys that design and README promise; a rename must be a new schema version."""
    device = {field.encode_name for field in msgspec.structs.fields(Device)}
    queue = {field.encode_name for field in msgspec.structs.fields(Queue)}
    assert {"id", "kind", "qom_path", "pci_address", "serial", "ring_owner", "queues"} <= device
    assert {"index", "role", "fields", "guest", "counts", "in_flight"} <= queue


def test_a_layout_bundle_is_valid() -> None:
    """Every kind of C type in one bundle, as the cache and `layout build` write it."""
    number = Base("int", 4, "signed")
    record = Record(
        "struct",
        "S",
        24,
        (
            Member("bits", number, 0, 3, 1),
            Member(None, Record("union", None, 8, (Member("a", Array(number, 2), 0),)), 8),
            Member("call", Pointer(Function(Void(), (Qualified("const", number),))), 16),
            Member("next", Pointer(Named("struct", "S")), 16),
        ),
    )
    bundle = Bundle(build_id="01bb8bebb51bd28c3075be9af838a172d287e316")
    put_type(bundle, "struct S", Typed(record, "hw/virtio/virtio.c"))
    put_type(bundle, "enum E", Typed(Enum("E", 4, False, {"A": 0})))
    put_type(bundle, "typedef T", Typed(Typedef("T", Array(number, None))))
    bundle.variables["v"] = Variable("v", 0x1000, number)
    bundle.functions["f"] = Code("f", 0x2000, 16)
    bundle.symbols_at.update({"2000": Symbol("f", 0x2000, 16), "3000": None})
    bundle.lines["2000"] = (SourceFrame("g", "a.h", 3, "/b"), SourceFrame("f"))
    document = json.loads(to_json(bundle))
    validator("layout-1.json").validate(document)
    assert document["schema"] == "vringcore/layout/1"
    document["types"]["struct S"]["definition"]["members"][0]["offset"] = "0"
    with pytest.raises(jsonschema.ValidationError):
        validator("layout-1.json").validate(document)
