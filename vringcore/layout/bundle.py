"""Layout bundles: what is known of one build's types, variables and symbols, as JSON.

A bundle is keyed by build-id. It holds what was looked for: ``searched_absent`` lists what was
looked for and is not in the build, and whatever is in neither list was never asked. Bundles come
from a cache or from somebody else, so they are checked as any input is.
"""

from typing import Any

import msgspec

from vringcore.errors import LayoutError
from vringcore.layout.types import Code, Definition, SourceFrame, Symbol, Type, Variable

SCHEMA = "vringcore/layout/1"
MAX_SIZE = 256 << 20

MAX_LINES = 2048
"""Addresses whose source lines are kept; the oldest go first."""


class Typed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A definition and the unit it was read from."""

    definition: Definition
    unit: str = ""


class Bundle(msgspec.Struct, omit_defaults=True):
    """One build's layouts.

    ``types`` are kept as they came until they are asked for: a core's questions need few of them.
    ``symbols_at`` answers look-ups by address (hexadecimal); None: no symbol is there.
    ``lines`` likewise tell functions, files and lines, the innermost inlined function first.
    ``scopes`` are variables at addresses, kept as they came (:mod:`vringcore.layout.scopes`).
    ``enumerators`` tell in which enumeration each is.
    ``facts`` are words about the build that are the same in every core of it, such as QEMU's
    version.
    ``wanted`` are the digests of the lists that were looked up as a whole.
    """

    schema: str = msgspec.field(default_factory=lambda: SCHEMA)  # a plain default is left out
    build_id: str = ""
    module: str = ""
    machine: str = ""
    big_endian: bool = False
    pointer_size: int = 8
    producer: str = ""
    types: dict[str, msgspec.Raw] = {}
    variables: dict[str, Variable] = {}
    functions: dict[str, Code] = {}
    enumerators: dict[str, Type] = {}
    symbols: dict[str, Symbol] = {}
    symbols_at: dict[str, Symbol | None] = {}
    lines: dict[str, tuple[SourceFrame, ...]] = {}
    scopes: dict[str, msgspec.Raw] = {}
    searched_absent: list[str] = []
    wanted: list[str] = []
    facts: dict[str, str] = {}


_encoder = msgspec.json.Encoder()


def check_size(size: int, *, where: str) -> None:
    """Refuse what no bundle can be, before it is read.

    :param size: bytes of the file
    :raises LayoutError: if it is too large
    """
    if size > MAX_SIZE:
        raise LayoutError(
            "a layout bundle is too large",
            where=where,
            seen=f"{size} bytes",
            expected=f"at most {MAX_SIZE}",
            hint="`vringcore layout build` makes bundles",
        )


def is_bundle(data: bytes) -> bool:
    """Tell a bundle from a layout pack, by what it says that it is; a damaged file is neither."""
    start = data[:64]
    return start[:1] == b"{" and b"layout-pack/" not in start


def from_json(data: bytes, *, where: str = "the layout bundle") -> Bundle:
    """Return a bundle from its JSON.

    :raises LayoutError: if it is damaged, too large, or of an unknown schema
    """
    check_size(len(data), where=where)
    try:
        bundle = msgspec.json.decode(data, type=Bundle)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LayoutError(
            "a layout bundle is damaged",
            where=where,
            seen=str(error),
            hint="build it again with `vringcore layout build`",
        ) from error
    if bundle.schema != SCHEMA:
        raise LayoutError(
            "a layout bundle of an unknown kind",
            where=where,
            seen=bundle.schema,
            expected=SCHEMA,
            hint="build it again with `vringcore layout build`",
        )
    return bundle


def to_json(bundle: Bundle) -> bytes:
    """Return a bundle as JSON, its keys in the order they were learned."""
    return _encoder.encode(bundle)


def get_type(bundle: Bundle, key: str) -> Typed | None:
    """Return a type of a bundle, None if the bundle does not have it.

    :raises LayoutError: if its definition is damaged, or is another type's
    """
    raw = bundle.types.get(key)
    if raw is None:
        return None
    try:
        typed = msgspec.json.decode(raw, type=Typed)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LayoutError(
            "a type in a layout bundle is damaged", where=key, seen=str(error)
        ) from error
    if key_of(typed.definition) != key.partition("@")[0]:
        raise LayoutError(
            "a type in a layout bundle has another's name",
            where=key,
            seen=key_of(typed.definition),
        )
    return typed


def put_type(bundle: Bundle, key: str, typed: Typed) -> None:
    """Add a type to a bundle."""
    bundle.types[key] = msgspec.Raw(_encoder.encode(typed))


def put_lines(bundle: Bundle, key: str, frames: tuple[SourceFrame, ...]) -> None:
    """Add the source lines of an address, in place of the oldest if there are too many."""
    while len(bundle.lines) >= MAX_LINES:
        del bundle.lines[next(iter(bundle.lines))]
    bundle.lines[key] = frames


def scope_key(address: int, *, all_variables: bool) -> str:
    """Return the key of an address's variables in a bundle."""
    return format(address, "x") + ("+" if all_variables else "")


def tail_calls_key(address: int) -> str:
    """Return the key of the tail calls of the function at an address in a bundle."""
    return format(address, "x") + "t"


def key_of(definition: Definition) -> str:
    """Return the key under which a definition is found."""
    kind: Any = getattr(definition, "kind", None)
    if kind is None:
        kind = "enum" if hasattr(definition, "enumerators") else "typedef"
    return f"{kind} {definition.name}"
