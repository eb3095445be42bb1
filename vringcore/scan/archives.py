"""Members of tar and zip archives, without unpacking what can be read where it lies.

A stored member of a tar or zip archive is a range of the archive's file, a deflated one of a zip is
a range that a worker unpacks; everything else is unpacked here, one member after the other.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.errors import CoreFormatError, LimitError, VringcoreError
from vringcore.scan import recognise
from vringcore.scan.place import MARK, Place
from vringcore.scan.sources import MAX_MEMBER, Held, Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from vringcore.memory.files import FileSource
    from vringcore.scan.sources import Source

MAX_DEPTH = 1
"""Archives within an archive are opened, those within them are not."""

MAX_READ = 16 << 20
"""Bytes that a header of an archive may have: a member's own bytes are read in small pieces."""

_PIECE = 1 << 20
_BACK = 2 * tarfile.BLOCKSIZE
"""Bytes that the reader of archives steps back: to the end of a member, to the last header."""

_ZIP_HEADER = 30
_ENCRYPTED = 1


class Found(msgspec.Struct, frozen=True):
    """What lies in an archive: a core's place, or why there is none: something is skipped."""

    place: Place
    skipped: str = ""
    problem: str = ""


class Archives:
    """Goes through archives.

    :param tmpdir: where members are unpacked to that are too large for memory
    :param max_unpacked: bytes that one member may unpack to
    :param may_share: whether workers can open a temporary file of this machine
    """

    def __init__(
        self, tmpdir: str | None = None, max_unpacked: int | None = None, *, may_share: bool = True
    ) -> None:
        self._tmpdir = tmpdir
        self._limit = max_unpacked or MAX_MEMBER
        self._may_share = may_share

    def members(self, place: Place, source: Source, kind: str, depth: int = 0) -> Iterator[Found]:
        """Yield what an archive holds, in its own order; ``source`` stays open.

        Where the archive is damaged, what comes before is yielded, then the problem.
        """
        walk = self._zip if kind == recognise.ZIP else self._tar
        try:
            if kind == recognise.PACKED_TAR:
                reader: Any = _Forward(recognise.unpacked(source))
            else:
                reader = io.BufferedReader(_Raw(source), 1 << 16)
            yield from walk(place, source, reader, kind, depth)
        except (VringcoreError, *_DAMAGE) as error:
            yield Found(place, problem=str(error) or type(error).__name__)

    def _tar(
        self, place: Place, source: Source, reader: IO[bytes], kind: str, depth: int
    ) -> Iterator[Found]:
        with tarfile.open(fileobj=reader, mode="r:") as archive:
            while True:
                member = archive.next()
                if member is None:
                    _check_end(reader, archive.offset, place)
                    break
                setattr(archive, "members", [])  # noqa: B010 - it would keep them all
                if not member.isreg():
                    continue
                inner = _inner(place, member.name, member.size, float(member.mtime))
                if kind == recognise.TAR and not member.issparse():
                    inner = _moved(inner, place, member.offset_data, member.size)
                    with _view(source, member.offset_data, member.size) as view:
                        yield from self._look(inner, view, depth)
                else:
                    file = archive.extractfile(member)
                    assert file is not None
                    yield from self._unpacked(inner, file.read, depth)

    def _zip(
        self, place: Place, source: Source, reader: IO[bytes], _kind: str, depth: int
    ) -> Iterator[Found]:
        with zipfile.ZipFile(reader) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                inner = _inner(place, member.filename, member.file_size, _zip_time(member))
                if member.flag_bits & _ENCRYPTED:
                    yield Found(inner, skipped="encrypted")
                    continue
                if member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    yield from self._zip_range(inner, place, source, member, depth)
                else:
                    with archive.open(member) as file:
                        yield from self._unpacked(inner, file.read, depth)

    def _zip_range(
        self, inner: Place, place: Place, source: Source, member: zipfile.ZipInfo, depth: int
    ) -> Iterator[Found]:
        """Yield a member by its range: a worker unpacks it, if it must be."""
        header = source.read(member.header_offset, _ZIP_HEADER)
        if len(header) < _ZIP_HEADER:
            raise CoreFormatError("the archive is cut", where=inner.name)
        at = member.header_offset + _ZIP_HEADER
        at += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        inner = _moved(inner, place, at, member.compress_size)
        view = _view(source, at, member.compress_size)
        if member.compress_type == zipfile.ZIP_STORED:
            yield from self._look(inner, view, depth)
            return
        inner = msgspec.structs.replace(inner, packing="deflate")
        start = Held(_inflated_start(view), inner.name)
        kind = recognise.kind_of(start)
        if kind in recognise.ARCHIVES and depth < MAX_DEPTH:
            from vringcore.scan.sources import inflated

            with inflated(view, inner, self._limit) as whole:
                # What lies in it is no range of any file.
                inner = msgspec.structs.replace(inner, offset=0, length=None, packing="")
                yield from self._kept(self.members(inner, whole, kind, depth + 1), whole)
        else:
            yield _answer(inner, kind)

    def _look(self, inner: Place, source: Source, depth: int) -> Iterator[Found]:
        """Yield a member that is a range of the archive, or what lies in it."""
        kind = recognise.kind_of(source)
        if kind in recognise.ARCHIVES and depth < MAX_DEPTH:
            yield from self.members(inner, source, kind, depth + 1)
        else:
            yield _answer(inner, kind)

    def _unpacked(self, inner: Place, read: Callable[[int], bytes], depth: int) -> Iterator[Found]:
        """Yield a member that must be unpacked here; one that is no core is only begun."""
        start = read(_PIECE)
        kind = recognise.kind_of(Held(start, inner.name))
        archive = kind in recognise.ARCHIVES and depth < MAX_DEPTH
        if not archive and kind != recognise.CORE:
            yield _answer(inner, kind)
            return
        spool = Spool(inner.name, self._limit, self._tmpdir)
        while start:
            spool.write(start)
            start = read(_PIECE)
        with spool.source() as whole:
            if archive:
                yield from self._kept(self.members(inner, whole, kind, depth + 1), whole)
            else:
                yield self._taken_out(inner, whole, 0, whole.size)

    def _kept(self, inside: Iterator[Found], whole: Source) -> Iterator[Found]:
        """Yield members of an archive that exists only here: with their bytes."""
        for found in inside:
            place = found.place
            if found.skipped or found.problem or place.data is not None or place.scratch:
                yield found
            else:
                length = place.size if place.length is None else place.length
                yield self._taken_out(place, whole, place.offset, length)

    def _taken_out(self, place: Place, whole: Source, offset: int, length: int) -> Found:
        """Return a member with its bytes: in memory, or if they are many in a temporary file."""
        from vringcore.scan.sources import IN_MEMORY

        place = msgspec.structs.replace(place, offset=0, length=None)
        if length <= IN_MEMORY:
            return Found(msgspec.structs.replace(place, data=whole.pread(offset, length)))
        if not self._may_share:
            problem = "too large to be sent to a cluster; unpack the archive on shared storage"
            return Found(place, problem=problem)
        with tempfile.NamedTemporaryFile(
            prefix="vringcore-", dir=self._tmpdir, delete=False
        ) as file:
            for at in range(offset, offset + length, _PIECE):
                file.write(whole.pread(at, min(_PIECE, offset + length - at)))
        return Found(msgspec.structs.replace(place, scratch=file.name))


def _check_end(reader: IO[bytes], offset: int, place: Place) -> None:
    """Refuse an archive that ends with anything but its end: the reader takes damage for it."""
    reader.seek(offset)
    block = reader.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0"):
        raise CoreFormatError(
            "the archive is damaged",
            where=f"offset {offset:#x} of {place.name}",
            expected="the header of a member, or the end of the archive",
            hint="the members before it were read",
        )


def _answer(place: Place, kind: str) -> Found:
    if kind == recognise.CORE:
        return Found(place)
    return Found(place, skipped="nested too deep" if kind in recognise.ARCHIVES else "no core")


def _inner(place: Place, name: str, size: int, modified: float | None) -> Place:
    member = f"{place.member}{MARK}{name}" if place.member else name
    return Place(place.path, member, size, modified, scratch=place.scratch)


def _moved(inner: Place, outer: Place, offset: int, length: int) -> Place:
    return msgspec.structs.replace(inner, offset=outer.offset + offset, length=length)


def _zip_time(member: zipfile.ZipInfo) -> float | None:
    from calendar import timegm

    try:
        return float(timegm((*member.date_time, 0, 0, 0)))
    except ValueError:
        return None


def _view(source: FileSource, offset: int, length: int) -> Source:
    return View(source, offset, length)


class View(Held):
    """A range of an open source, which stays open when this is closed."""

    __slots__ = ("_of", "_start")

    def __init__(self, of: FileSource, start: int, length: int) -> None:
        super().__init__(b"", of.path)
        self._of = of
        self._start = start
        self.size = max(0, min(length, of.size - start))

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes as :meth:`FileSource.read` does."""
        return self._of.read(self._start + offset, max(0, min(size, self.size - offset)))

    def pread(self, offset: int, size: int) -> bytes:
        """Return bytes as :meth:`FileSource.pread` does."""
        return self._of.pread(self._start + offset, max(0, min(size, self.size - offset)))


def _inflated_start(source: Source) -> bytes:
    import zlib

    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return unpacker.decompress(source.pread(0, 1 << 16), 1 << 16)
    except zlib.error:
        return b""


class _Raw(io.RawIOBase):
    """A source as a file that can be seeked, for the standard library's readers."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, self._source.size)
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = self._source.pread(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _Forward(io.RawIOBase):
    """What a decompressor yields as a file that is read forwards, but for the last piece."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._start = 0
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        target = offset + (self._at if whence == os.SEEK_CUR else 0)
        if whence == os.SEEK_END or target < self._start:
            raise CoreFormatError("a packed archive cannot be read backwards")
        while target > self._start + len(self._held) and self._advance():
            pass
        self._at = target
        return target

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > MAX_READ:
            raise LimitError("a header of the archive is too large", seen=f"{size} bytes")
        parts = []
        while size:
            skip = self._at - self._start
            part = self._held[skip : skip + size]
            if not part and not self._advance():
                break
            parts.append(part)
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)

    def _advance(self) -> bool:
        """Take the next piece; the last bytes before it are kept for a step back."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        keep = self._held[-_BACK:]
        self._start += len(self._held) - len(keep)
        self._held = keep + piece
        return True


_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError)
