"""Compressed cores: recognised by content, unpacked once into a private sparse temporary file."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vringcore.errors import CoreFormatError, FileError, LimitError
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Self

MAX_UNPACKED = 1 << 40
"""What ``max_unpacked`` is by default: 1 TiB, holes counted."""

_READ_SIZE = 1 << 16
_CHUNK = 1 << 20
_HOLE = 1 << 16
_ZEROS = bytes(_HOLE)
_XZ_MEMORY = 256 << 20
_KEEP_FREE = 0.05
"""The part of the free space that unpacking leaves alone."""


def unpack(
    packed: FileSource,
    *,
    tmpdir: str | None = None,
    max_unpacked: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[FileSource, list[CoreFormatError]]:
    """Unpack a compressed file; one that is not compressed is returned as it is.

    ``packed`` is closed when something else is returned. A compressed file that is cut or damaged
    yields what could be unpacked before, and the problem beside it.

    :raises FileError: if there is no room, or a file cannot be read or written
    :raises LimitError: if it unpacks to more than ``max_unpacked`` bytes
    """
    found = _recognise(packed.read(0, 8))
    if found is None:
        return packed, []
    name, unpacker = found
    raw = _Sequential(packed, progress)
    try:
        with Target(packed.path, tmpdir, max_unpacked) as target:
            problem = _copy(unpacker(raw), target, name, raw)
            source = target.source()
    except OSError as error:
        raise FileError(
            f"the core cannot be unpacked ({name})",
            where=packed.path,
            seen=error.strerror or str(error),
            hint="choose a directory with room by --tmpdir",
        ) from error
    packed.close()
    return source, [problem] if problem else []


def chunks_of(
    packed: FileSource, progress: Callable[[int, int], None] | None = None
) -> Iterator[bytes] | None:
    """Return what a compressed file unpacks to, in bounded pieces; None if it is not compressed.

    The file stays open. Nothing is unpacked before it is asked for.

    :raises CoreFormatError: on the way, where the file is cut or damaged
    """
    found = _recognise(packed.read(0, 8))
    return None if found is None else _checked(*found, packed, progress)


def unpacked_start(packed: FileSource | bytes, size: int) -> bytes:
    """Return the first bytes of what a compressed file holds, of one that is not its own.

    Of damaged ones fewer; of all formats the beginning tells enough that little is unpacked.

    :param packed: the file, or its beginning
    """
    source = _Bytes(packed) if isinstance(packed, bytes) else packed
    pieces = chunks_of(source)  # type: ignore[arg-type]
    if pieces is None:
        return source.read(0, size)
    start = b""
    with suppress(CoreFormatError):
        for piece in pieces:
            start += piece[: size - len(start)]
            if len(start) == size:
                break
    return start


class _Bytes:
    """Bytes that are read as a file is."""

    path = "the beginning of a member"

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


def _checked(
    name: str,
    unpacker: Callable[[_Sequential], Iterator[bytes]],
    packed: FileSource,
    progress: Callable[[int, int], None] | None,
) -> Iterator[bytes]:
    raw = _Sequential(packed, progress)
    try:
        yield from unpacker(raw)
    except _damage_of(name) as error:
        raise CoreFormatError(
            f"the compressed file ({name}) is cut or damaged",
            where=f"about offset {raw.place:#x} of {packed.path}",
            seen=str(error) or type(error).__name__,
            hint="copy it again",
        ) from error


class _Sequential:
    """A file source as the reader that decompressors want."""

    def __init__(self, source: FileSource, progress: Callable[[int, int], None] | None) -> None:
        self._source = source
        self._progress = progress
        self.place = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(self.place, size if size >= 0 else _READ_SIZE)
        self.place += len(data)
        if self._progress is not None:
            self._progress(self.place, self._source.size)
        return data


class Target:
    """The temporary file: no name that others could open, gone when closed, zeros kept as holes.

    :param path: what is unpacked, for messages
    :param limit: the most bytes, holes counted; None is :data:`MAX_UNPACKED`
    :ivar size: bytes so far
    :raises OSError: if there can be no such file in ``tmpdir``
    """

    def __init__(self, path: str, tmpdir: str | None, limit: int | None) -> None:
        self._path = path
        self._limit = limit or MAX_UNPACKED
        self._directory = tmpdir or os.environ.get("TMPDIR") or _default_directory()
        self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
        self._room = int(shutil.disk_usage(self._directory).free * (1 - _KEEP_FREE))
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add bytes.

        :raises LimitError: if they are more than is allowed
        :raises FileError: if the file system is nearly full
        """
        self._check(self.size + len(data))
        view = memoryview(data)
        for start in range(0, len(data), _HOLE):
            block = view[start : start + _HOLE]
            if block != _ZEROS[: len(block)]:
                self._put(block, self.size + start)
        self.size += len(data)

    def skip_to(self, size: int) -> None:
        """Add zeros up to a size, as a hole.

        :raises LimitError: if that is more than is allowed
        """
        self._check(size)
        self.size = max(self.size, size)

    def source(self) -> FileSource:
        """Return what was written, to be read; it outlives this object."""
        os.ftruncate(self._file.fileno(), self.size)
        return FileSource(os.dup(self._file.fileno()), self._path, self.size, "core")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise LimitError(
                "the core unpacks to more than is allowed",
                where=self._path,
                seen=f"more than {self._limit} bytes",
                hint="allow more with --max-unpacked",
            )

    def _put(self, block: memoryview, offset: int) -> None:
        self._room -= len(block)
        if self._room < 0:
            raise FileError(
                "there is no room to unpack the core",
                where=self._directory,
                seen=f"{offset} bytes unpacked and the file system nearly full",
                hint="choose a directory with room by --tmpdir",
            )
        self._file.seek(offset)
        while block:
            block = block[self._file.write(block) :]


def _copy(
    chunks: Iterator[bytes], target: Target, name: str, raw: _Sequential
) -> CoreFormatError | None:
    """Write all chunks; return what ended them early."""
    damage = _damage_of(name)
    while True:
        try:
            chunk = next(chunks, None)
        except damage as error:
            problem = CoreFormatError(
                f"the compressed core ({name}) is cut or damaged",
                where=f"about offset {raw.place:#x}",
                seen=str(error) or type(error).__name__,
                hint=f"only its first {target.size} bytes are used; copy it again",
            )
            problem.__cause__ = error
            return problem
        if chunk is None:
            return None
        target.write(chunk)


def _incremental(raw: _Sequential, make: Callable[[], Any]) -> Iterator[bytes]:
    """Yield bounded chunks of all streams that lie one behind the other.

    :param make: makes an incremental decompressor as those of bz2, lzma and lz4 are
    """
    data = raw.read(_READ_SIZE)
    while data:
        stream = make()
        while not stream.eof:
            if not data and stream.needs_input:
                data = raw.read(_READ_SIZE)
                if not data:
                    raise EOFError("the file ends within a compressed stream")
            yield stream.decompress(data, _CHUNK)
            data = b""
        data = stream.unused_data or raw.read(_READ_SIZE)
        # xz pads its streams with zeros.
        data = data if data.strip(b"\0") else raw.read(_READ_SIZE)


def _reader_chunks(reader: Any) -> Iterator[bytes]:
    while chunk := reader.read(_CHUNK):
        yield chunk


def _gzip(raw: _Sequential) -> Iterator[bytes]:
    import gzip

    reader = gzip.GzipFile(fileobj=cast("IO[bytes]", raw), mode="rb")
    # Where the file is cut, `read` would keep back what it has.
    return iter(lambda: reader.read1(_CHUNK), b"")


def _bzip2(raw: _Sequential) -> Iterator[bytes]:
    import bz2

    return _incremental(raw, bz2.BZ2Decompressor)


def _xz(raw: _Sequential) -> Iterator[bytes]:
    import lzma

    return _incremental(raw, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY))


def _lz4(raw: _Sequential) -> Iterator[bytes]:
    import lz4.frame

    return _incremental(raw, lz4.frame.LZ4FrameDecompressor)


def _zstd(raw: _Sequential) -> Iterator[bytes]:
    import zstandard

    source = cast("IO[bytes]", raw)
    return _reader_chunks(
        zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
    )


def _recognise(start: bytes) -> tuple[str, Callable[[_Sequential], Iterator[bytes]]] | None:
    return next(
        ((name, unpacker) for magic, name, unpacker in _FORMATS if start.startswith(magic)), None
    )


_FORMATS: tuple[tuple[bytes, str, Callable[[_Sequential], Iterator[bytes]]], ...] = (
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (b"\x04\x22\x4d\x18", "lz4", _lz4),
    (b"\xfd7zXZ\0", "xz", _xz),
    (b"\x1f\x8b", "gzip", _gzip),
    (b"BZh", "bzip2", _bzip2),
)


def _damage_of(name: str) -> tuple[type[Exception], ...]:
    """Return what the library for a format raises when its input is damaged."""
    if name == "zstd":
        import zstandard

        return (zstandard.ZstdError,)
    if name == "xz":
        import lzma

        return (EOFError, lzma.LZMAError)
    if name == "gzip":
        import gzip
        import zlib

        return (EOFError, zlib.error, gzip.BadGzipFile)
    # bz2 says OSError and lz4 RuntimeError or ValueError.
    return (EOFError, OSError, RuntimeError, ValueError)


def _default_directory() -> str:
    # /tmp is often memory, and a core is large.
    return "/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir()  # noqa: S108
