"""Opens what lies at a place: a file, an object of a store, a member of an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.elfcore.compressed import Target
from vringcore.errors import CoreFormatError, FileError
from vringcore.scan.remote import Remote, is_url, open_object
from vringcore.scan.sources import Held, Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vringcore.scan.place import Place

Source = Part | Held | Remote
"""Bytes of a core that are read at random, and counted."""


def open_file(path: str, storage: Mapping[str, Any], tmpdir: str | None = None) -> Source:
    """Open a file or an object of a store.

    :param tmpdir: where an object is kept that cannot be read by range
    :raises FileError: if it cannot be opened
    """
    return open_object(path, storage, tmpdir) if is_url(path) else Part.open(path, what="core")


def open_place(
    place: Place, storage: Mapping[str, Any], limit: int | None = None, tmpdir: str | None = None
) -> Source:
    """Open a core as it lies there: still packed, if it is packed by itself.

    :param limit: bytes that a member may unpack to
    :param tmpdir: where a deflated member is unpacked to, and an object that cannot be read by
        range
    :raises FileError: if it cannot be opened, or there is no room
    :raises CoreFormatError: if a deflated member is damaged
    :raises LimitError: if it unpacks to more than is allowed
    """
    source: Source
    if place.data is not None:
        source = Held(place.data, place.name)
    else:
        source = open_file(place.scratch or place.path, storage, tmpdir)
        if place.length is not None and not isinstance(source, Held):
            source = source.narrow(place.offset, place.length)
        source.path = place.name
    if not place.packing:
        return source
    with source:
        return inflated(source, place, limit, tmpdir)


def inflated(source: Source, place: Place, limit: int | None, tmpdir: str | None) -> Part:
    """Return what a deflated member of a zip archive holds; ``source`` stays open.

    :raises CoreFormatError: if it is damaged, or unpacks to more than the archive says
    :raises LimitError: if it unpacks to more than ``limit`` bytes
    :raises FileError: if there is no room
    """
    import zlib

    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        with Target(place.name, tmpdir, limit) as target:
            at = 0
            while not unpacker.eof:
                packed = unpacker.unconsumed_tail
                if not packed:
                    packed = source.pread(at, 1 << 16)
                    at += len(packed)
                target.write(unpacker.decompress(packed, 1 << 20))
                if target.size > place.size:
                    raise CoreFormatError(
                        "the member unpacks to more than its archive says",
                        where=place.name,
                        seen=f"more than {place.size} bytes",
                        hint="the archive is damaged, or made to fill the disk",
                    )
                if not packed:
                    break
            made = Part.of(target.source())
    except zlib.error as error:
        raise CoreFormatError(
            "the member of the archive is damaged", where=place.name, seen=str(error)
        ) from error
    except OSError as error:
        raise FileError(
            "the member of the archive cannot be unpacked",
            where=place.name,
            seen=error.strerror or str(error),
            hint="choose a directory with room by --tmpdir",
        ) from error
    made.bytes_read = source.bytes_read
    return made
