"""Layout packs: the types of a program that was rebuilt, for builds that have no debug information.

A bundle (:mod:`vringcore.layout.bundle`) is of one build. A pack serves builds by their build-id,
each with the proof that the types are theirs. It has no address: symbols come from the binary at
hand. Packs are files like any others, so they are checked as any input is.

Annotations are evaluated here, as in :mod:`vringcore.layout.types`.
"""

from typing import Literal

import msgspec

from vringcore.errors import LayoutError
from vringcore.layout.bundle import Bundle, Typed, get_type, key_of
from vringcore.layout.types import Type

SCHEMA = "vringcore/layout-pack/1"
MAX_SIZE = 64 << 20

_ZSTD = b"\x28\xb5\x2f\xfd"

BUILD_AGAIN = "build it again with `vringcore layout pack`"


class Proof(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why the types of a pack are those of a build.

    ``text``: the program that the types were read from has the same machine code, byte for byte;
    ``digest`` is the SHA-256 of ``.text`` of both. ``self-checks``: ``checks`` facts of a core of
    that build fit together when it is read with them.
    """

    by: Literal["text", "self-checks"]
    program: str = ""
    digest: str = ""
    checks: int = 0


class PackVariable(msgspec.Struct, frozen=True, omit_defaults=True):
    """A variable without its address. ``external``: an exported symbol may tell it."""

    type: Type
    unit: str = ""
    external: bool = False


class Pack(msgspec.Struct, omit_defaults=True):
    """Types, and the builds that have them.

    ``types`` are as in a bundle, ``variables`` by name or ``function::name``. ``build_id`` and
    ``digest`` are of the program that the types were read from. ``complete``: no other type is in
    the program.
    """

    schema: str = msgspec.field(default_factory=lambda: SCHEMA)  # a plain default is left out
    name: str = ""
    serves: dict[str, Proof] = {}
    build_id: str = ""
    digest: str = ""
    machine: str = ""
    big_endian: bool = False
    pointer_size: int = 8
    producer: str = ""
    complete: bool = False
    types: dict[str, msgspec.Raw] = {}
    variables: dict[str, PackVariable] = {}


class Served(msgspec.Struct):
    """As much of a pack as tells whom it serves."""

    schema: str = ""
    serves: dict[str, Proof] = {}


_pack_decoder = msgspec.json.Decoder(Pack)
_served_decoder = msgspec.json.Decoder(Served)
_typed_decoder = msgspec.json.Decoder(Typed)


def unpacked(data: bytes, *, where: str) -> bytes:
    """Return the JSON of a pack, which may be compressed with zstd.

    :raises LayoutError: if it is damaged or too large
    """
    if data[:4] != _ZSTD:
        return data
    import zstandard

    try:
        text = zstandard.ZstdDecompressor().stream_reader(data).read(MAX_SIZE + 1)
    except zstandard.ZstdError as error:
        raise LayoutError(
            "a layout pack is damaged", where=where, seen=str(error), hint=BUILD_AGAIN
        ) from error
    if len(text) > MAX_SIZE:
        raise LayoutError(
            "a layout pack is too large", where=where, expected=f"at most {MAX_SIZE} bytes"
        )
    return text


def pack_from_json(data: bytes, *, where: str = "the layout pack") -> Pack:
    """Return a pack from its JSON, compressed or not.

    :raises LayoutError: if it is damaged, too large, or of an unknown schema
    """
    text = unpacked(data, where=where)
    if text[:1] != b"{":
        raise LayoutError(
            "the file is neither a layout bundle nor a layout pack",
            where=where,
            expected="a file by `vringcore layout build` or `vringcore layout pack`",
        )
    try:
        pack = _pack_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LayoutError(
            "a layout pack is damaged", where=where, seen=str(error), hint=BUILD_AGAIN
        ) from error
    if pack.schema != SCHEMA:
        raise LayoutError(
            "a layout pack of an unknown kind", where=where, seen=pack.schema, expected=SCHEMA
        )
    return pack


def served_by(data: bytes, *, where: str) -> Served:
    """Return whom a file serves; nobody if it is a bundle.

    :raises LayoutError: if it is damaged
    """
    try:
        return _served_decoder.decode(unpacked(data, where=where))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LayoutError("a layout pack is damaged", where=where, seen=str(error)) from error


def pack_type(pack: Pack, key: str) -> Typed | None:
    """Return a type of a pack, None if it does not have it.

    :raises LayoutError: if its definition is damaged, or is another type's
    """
    raw = pack.types.get(key)
    if raw is None:
        return None
    try:
        typed = _typed_decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LayoutError(
            "a type in a layout pack is damaged", where=key, seen=str(error), hint=BUILD_AGAIN
        ) from error
    if key_of(typed.definition) != key.partition("@")[0]:
        raise LayoutError(
            "a type in a layout pack has another's name", where=key, seen=key_of(typed.definition)
        )
    return typed


def pack_to_json(pack: Pack) -> bytes:
    """Return a pack as compressed JSON."""
    import zstandard

    return zstandard.ZstdCompressor(level=19).compress(msgspec.json.encode(pack))


def pack_of_bundle(bundle: Bundle) -> Pack:
    """Return the types of a bundle without its addresses, for another build that may have them.

    :raises LayoutError: if a type in it is damaged
    """
    for key in bundle.types:
        get_type(bundle, key)
    variables = {
        "::".join(part for part in (each.function, each.name) if part): PackVariable(
            each.type, each.unit, each.external
        )
        for each in bundle.variables.values()
        if each.type is not None
    }
    return Pack(
        name=bundle.module,
        build_id=bundle.build_id,
        machine=bundle.machine,
        big_endian=bundle.big_endian,
        pointer_size=bundle.pointer_size,
        producer=bundle.producer,
        types=bundle.types,
        variables=variables,
    )
