"""JSON Schema (draft 2020-12) from the model's types.

msgspec's own generator refuses unions of several untagged structs, of which the model is made
(``SplitGuest | PackedGuest | Absent``): it answers for decoding too, and this library only writes
its documents. So the type hints are walked here.

- A key that can be missing (``UNSET``, or a default in a struct with ``omit_defaults``) is not
  required; every other key is always there.
- Objects are open: a later release may add keys, never rename or retype one.
- Each struct becomes a definition under ``$defs``, described by its docstring.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

import vringcore.model

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_SCALARS: dict[Any, Schema] = {
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
}

_RAW = "msgspec.Raw"

_FIELD_VALUE: Schema = {
    "description": (
        "A value of a C type. Addresses are hex strings, integers wider than 64 bits decimal "
        "strings, char arrays strings with invalid bytes as \\xNN, other arrays lists. An "
        "enumerator is an object of value and name, a pointer one of address, symbol and offset, "
        "an absent value one of absent, address and hint; structs and unions are objects of "
        "their members under their C names."
    ),
    "anyOf": [
        {"type": ["null", "boolean", "number", "string"]},
        {"type": "array", "items": {"$ref": "#/$defs/FieldValue"}},
        {"type": "object", "additionalProperties": {"$ref": "#/$defs/FieldValue"}},
    ],
}


def document_schema(
    document: type[msgspec.Struct], title: str, *, raw: type[msgspec.Struct] | None = None
) -> Schema:
    """Return the schema of a document type, complete with the definitions it refers to.

    :param document: a struct type with a ``schema`` member whose default names the document
    :param title: that name, such as ``vringcore/report/1``
    :param raw: what lies in the document's members of type :class:`msgspec.Raw`, if it has any
    """
    resolve_names()
    definitions: dict[str, Schema] = {}
    if raw is not None:
        definitions[_RAW] = _reference(raw, definitions)
    body = _struct(document, definitions)
    definitions.pop(_RAW, None)
    return {
        "$schema": DIALECT,
        "title": title,
        **body,
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def resolve_names() -> None:
    """Give each module of the model the names that it imports for the type checker alone."""
    names = [info.name for info in pkgutil.iter_modules(vringcore.model.__path__)]
    modules = [importlib.import_module(f"vringcore.model.{name}") for name in names]
    structs = {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, msgspec.Struct)
    }
    for module in modules:
        for name, struct in structs.items():
            vars(module).setdefault(name, struct)


def document_name(field: msgspec.structs.FieldInfo) -> str:
    """Return the document's own name: the default of its ``schema`` member."""
    made = field.default_factory
    return str(field.default if made is msgspec.NODEFAULT else made())


def _struct(struct: type[msgspec.Struct], definitions: dict[str, Schema]) -> Schema:
    config = struct.__struct_config__
    properties: dict[str, Schema] = {}
    required: list[str] = []
    if config.tag_field is not None:
        properties[config.tag_field] = {"const": config.tag}
        required.append(config.tag_field)
    for field in msgspec.structs.fields(struct):
        properties[field.encode_name] = _property(field, definitions)
        if not _can_be_missing(field, config.omit_defaults):
            required.append(field.encode_name)
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    if struct.__doc__:
        schema = {"description": _prose(struct.__doc__), **schema}
    return schema


def _property(field: msgspec.structs.FieldInfo, definitions: dict[str, Schema]) -> Schema:
    if field.name == "schema":  # a document's own name
        return {"const": document_name(field)}
    return _type(field.type, definitions)


def _can_be_missing(field: msgspec.structs.FieldInfo, omit_defaults: bool) -> bool:
    if field.name == "schema":
        return False
    return field.default is msgspec.UNSET or (omit_defaults and not field.required)


def _type(hint: Any, definitions: dict[str, Schema]) -> Schema:
    if hint is Any:
        definitions.setdefault("FieldValue", _FIELD_VALUE)
        return {"$ref": "#/$defs/FieldValue"}
    if hint in _SCALARS:
        return _SCALARS[hint]
    if hint is msgspec.Raw and _RAW in definitions:
        return definitions[_RAW]
    if inspect.isclass(hint) and issubclass(hint, msgspec.Struct):
        return _reference(hint, definitions)
    return _generic(hint, definitions)


def _generic(hint: Any, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a hint with arguments: a union, a list, a literal …"""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(arguments, definitions)
    if origin is Annotated:
        return _annotated(arguments, definitions)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1], definitions)}
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        return {"type": "array", "items": _type(arguments[0], definitions)}
    raise TypeError(f"no JSON Schema is known for {hint!r}")


def _reference(struct: type[msgspec.Struct], definitions: dict[str, Schema]) -> Schema:
    if struct.__name__ not in definitions:
        definitions[struct.__name__] = {}  # holds the place while a type that refers to itself
        definitions[struct.__name__] = _struct(struct, definitions)  # is being walked
    return {"$ref": f"#/$defs/{struct.__name__}"}


def _union(members: tuple[Any, ...], definitions: dict[str, Schema]) -> Schema:
    kept = [member for member in members if member is not msgspec.UnsetType]
    if len(kept) == 1:
        return _type(kept[0], definitions)
    return {"anyOf": [_type(member, definitions) for member in kept]}


def _annotated(arguments: tuple[Any, ...], definitions: dict[str, Schema]) -> Schema:
    schema = dict(_type(arguments[0], definitions))
    for meta in arguments[1:]:
        if isinstance(meta, msgspec.Meta) and meta.extra_json_schema:
            schema.update(meta.extra_json_schema)
    return schema


def _prose(docstring: str) -> str:
    """Return a docstring as one text: paragraphs kept, reST's double backquotes made single."""
    paragraphs = inspect.cleandoc(docstring).replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
