"""Members of tar and zip archives, without unpacking what can be read where it lies.

A stored member of a tar or zip archive is a range of the archive's file, a deflated one of a zip is
a range that a worker unpacks; everything else is unpacked here, one member after the other. Tar
archives are walked by what opens a single core in one (:mod:`vringcore.elfcore.tarwalk`).
"""

from __future__ import annotations

import io
import os
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from vringcore.elfcore.compressed import Target
from vringcore.elfcore.tarwalk import Walk
from vringcore.errors import CoreFormatError, LimitError, VringcoreError
from vringcore.scan import recognise
from vringcore.scan.access import inflated
from vringcore.scan.place import MARK, Place
from vringcore.scan.scratch import share
from vringcore.scan.sources import IN_MEMORY, Held, Part

try:
    from lzma import LZMAError
except ImportError:  # a Python without: its zipfile says so of a member
    LZMAError = EOFError  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.memory.files import FileSource

MAX_DEPTH = 1
"""Archives within an archive are opened, those within them are not."""

MAX_DIRECTORY = 64 << 20
"""Bytes that the directory of a zip archive may have: some 600,000 members."""

_START = 1 << 20
"""Bytes of a member that tell what it is: of bzip2, which unpacks blocks of 900 kB whole."""

_PIECE = 1 << 12
"""Bytes of a zip's member that are asked for at once: the library unpacks as many packed bytes
without a limit, which bzip2 makes 90 MB of at most."""

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
        self._limit = max_unpacked
        self._may_share = may_share

    def members(
        self, place: Place, source: FileSource, kind: str, depth: int = 0
    ) -> Iterator[Found]:
        """Yield what an archive holds, in its own order; ``source`` stays open.

        Where the archive is damaged, what comes before is yielded, then the problem.
        """
        walk = self._zip if kind == recognise.ZIP else self._tar
        try:
            yield from walk(place, source, kind, depth)
        except (VringcoreError, *_DAMAGE) as error:
            problem = str(error) or type(error).__name__
            yield Found(place, problem=f"the archive could not be read to its end: {problem}")

    def _tar(self, place: Place, source: FileSource, kind: str, depth: int) -> Iterator[Found]:
        with closing(Walk(source, None)) as walk:
            for member in walk:
                inner = _inner(place, member.name, member.size, float(member.mtime))
                if kind == recognise.TAR and not member.issparse():
                    inner = _moved(inner, place, member.offset_data, member.size)
                    yield from self._look(
                        inner, View(source, member.offset_data, member.size), depth
                    )
                    continue
                found = recognise.kind_of(Held(walk.start_of(member, _START), inner.name))
                if not _is_wanted(found, depth):
                    yield _answer(inner, found)
                    continue
                with Part.of(walk.open(member, self._tmpdir, self._limit)) as whole:
                    yield from self._unpacked(inner, whole, found, depth)
                if walk.problems:
                    raise walk.problems[0]

    def _zip(self, place: Place, source: FileSource, _kind: str, depth: int) -> Iterator[Found]:
        with zipfile.ZipFile(_Raw(source)) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                inner = _inner(place, member.filename, member.file_size, _zip_time(member))
                if member.flag_bits & _ENCRYPTED:
                    yield Found(inner, problem="the member is encrypted: unpack it by hand")
                elif member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    yield from self._zip_range(inner, place, source, member, depth)
                else:
                    yield from self._zip_packed(inner, archive, member, depth)

    def _zip_range(
        self,
        inner: Place,
        place: Place,
        source: FileSource,
        member: zipfile.ZipInfo,
        depth: int,
    ) -> Iterator[Found]:
        """Yield a member by its range: a worker unpacks it, if it must be."""
        header = source.read(member.header_offset, _ZIP_HEADER)
        if len(header) < _ZIP_HEADER:
            raise CoreFormatError("the archive is cut", where=inner.name)
        at = member.header_offset + _ZIP_HEADER
        at += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        inner = _moved(inner, place, at, member.compress_size)
        view = View(source, at, member.compress_size)
        if member.compress_type == zipfile.ZIP_STORED:
            yield from self._look(inner, view, depth)
            return
        inner = msgspec.structs.replace(inner, packing="deflate")
        kind = recognise.kind_of(Held(_inflated_start(view), inner.name))
        if kind in recognise.ARCHIVES and depth < MAX_DEPTH:
            with inflated(view, inner, self._limit, self._tmpdir) as whole:
                # What lies in it is no range of any file.
                inner = msgspec.structs.replace(inner, offset=0, length=None, packing="")
                yield from self._unpacked(inner, whole, kind, depth)
        else:
            yield _answer(inner, kind)

    def _zip_packed(
        self, inner: Place, archive: zipfile.ZipFile, member: zipfile.ZipInfo, depth: int
    ) -> Iterator[Found]:
        """Yield a member in a packing that the library alone knows; it keeps to its size."""
        with archive.open(member) as file:
            start = b""
            while len(start) < _START and (piece := file.read(_PIECE)):
                start += piece
            kind = recognise.kind_of(Held(start, inner.name))
            if not _is_wanted(kind, depth):
                yield _answer(inner, kind)
                return
            with Target(inner.name, self._tmpdir, self._limit) as target:
                while start:
                    target.write(start)
                    start = file.read(_PIECE)
                whole = Part.of(target.source())
        with whole:
            yield from self._unpacked(inner, whole, kind, depth)

    def _look(self, inner: Place, source: FileSource, depth: int) -> Iterator[Found]:
        """Yield a member that is a range of the archive, or what lies in it."""
        kind = recognise.kind_of(source)
        if kind in recognise.ARCHIVES and depth < MAX_DEPTH:
            yield from self.members(inner, source, kind, depth + 1)
        else:
            yield _answer(inner, kind)

    def _unpacked(self, inner: Place, whole: Part, kind: str, depth: int) -> Iterator[Found]:
        """Yield a member that was unpacked here, or what lies in it, with the bytes of each."""
        if kind == recognise.CORE:
            yield self._taken_out(inner, whole, 0, whole.size)
            return
        for found in self.members(inner, whole, kind, depth + 1):
            place = found.place
            if found.skipped or found.problem or place.data is not None or place.scratch:
                yield found
            else:
                length = place.size if place.length is None else place.length
                yield self._taken_out(place, whole, place.offset, length)

    def _taken_out(self, place: Place, whole: Part, offset: int, length: int) -> Found:
        """Return a member with its bytes: in memory, or if they are many in a temporary file."""
        if length <= IN_MEMORY:
            data = whole.pread(offset, length)
            return Found(msgspec.structs.replace(place, data=data, offset=0, length=None))
        if not self._may_share:
            problem = "too large to be sent to a cluster; unpack the archive on shared storage"
            return Found(place, problem=problem)
        scratch = share(whole.again(), self._tmpdir)
        return Found(msgspec.structs.replace(place, scratch=scratch, offset=offset, length=length))


def _is_wanted(kind: str, depth: int) -> bool:
    return kind == recognise.CORE or (kind in recognise.ARCHIVES and depth < MAX_DEPTH)


def _answer(place: Place, kind: str) -> Found:
    if kind == recognise.CORE:
        return Found(place)
    if kind in recognise.ARCHIVES:
        return Found(place, problem="an archive within an archive within an archive: unpack it")
    return Found(place, skipped="no core")


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


def _inflated_start(source: FileSource) -> bytes:
    import zlib

    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return unpacker.decompress(source.pread(0, 1 << 16), 1 << 16)
    except zlib.error:
        return b""


class _Raw(io.RawIOBase):
    """A source as a file that can be seeked, for the standard library's reader of zip archives."""

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

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = max(0, self._source.size - self._at)
        if size > MAX_DIRECTORY:
            raise LimitError(
                "the directory of the archive is too large",
                where=self._source.path,
                seen=f"{size} bytes",
                expected=f"at most {MAX_DIRECTORY}",
            )
        data = self._source.pread(self._at, size)
        self._at += len(data)
        return data


_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    LZMAError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What the standard library raises where a zip archive is damaged, or made as it does not know."""
