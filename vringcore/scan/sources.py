"""Bytes of a core wherever it lies, read at random as a local file is, and counted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vringcore.elfcore.compressed import Target
from vringcore.errors import CoreFormatError, FileError, UsageError
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vringcore.scan.place import Place

REMOTE_SHIFT = 17
"""Objects of a store are read in blocks of 128 KiB: a request costs more than its bytes."""

REMOTE_BLOCKS = 256
"""32 MiB of them are kept for each core."""

IN_MEMORY = 4 << 20
"""Members of archives up to this many bytes are kept in memory, larger ones in a file."""

NO_FILE = -1


class Part(FileSource):
    """A range of a file, or all of it. ``bytes_read`` counts what the system gave."""

    __slots__ = ("bytes_read",)

    def __init__(self, fd: int, path: str, size: int, what: str, start: int = 0) -> None:
        super().__init__(fd, path, size, what, start)
        self.bytes_read = 0

    @classmethod
    def of(cls, source: FileSource) -> Part:
        """Take over an open file: the other one is closed by that."""
        taken = cls(source._fd, source.path, source.size, source.what, source._start)
        source._fd = NO_FILE
        return taken

    def again(self) -> Part:
        """Return the same file, open once more."""
        return Part.of(self.part(0, self.size, self.path))

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def narrow(self, offset: int, length: int) -> Part:
        """Show ``length`` bytes from ``offset`` on alone; fewer where the file ends."""
        self._start = offset
        self.size = max(0, min(length, self.size - offset))
        return self

    def _pread(self, size: int, offset: int) -> bytes:
        data = super()._pread(size, offset)
        self.bytes_read += len(data)
        return data


class Held(FileSource):
    """A core that is in memory as a whole."""

    __slots__ = ("_data", "bytes_read")

    def __init__(self, data: bytes, path: str) -> None:
        super().__init__(NO_FILE, path, len(data), "core")
        self._data = data
        self.bytes_read = len(data)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes as :meth:`FileSource.read` does."""
        return self._data[offset : offset + size]

    pread = read


class Remote(FileSource):
    """An object of a store, read by range through a cache of blocks.

    A store that cannot do ranges gives it whole; then it is kept, and not asked for again.
    """

    __slots__ = ("_kept", "_store", "base", "bytes_read", "total")

    def __init__(self, store: Any, path: str, name: str, size: int) -> None:
        super().__init__(NO_FILE, name, size, "core")
        self._store = (store, path)
        self._kept: dict[int, bytes] = {}
        self.base = 0
        self.total = size
        self.bytes_read = 0

    def narrow(self, offset: int, length: int) -> Remote:
        """Show ``length`` bytes from ``offset`` on alone."""
        self.base = offset
        self.size = max(0, min(length, self.total - offset))
        return self

    def pread(self, offset: int, size: int) -> bytes:
        """Return bytes as :meth:`FileSource.pread` does, from whole blocks.

        :raises FileError: if the store refuses
        """
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        start = self.base + offset
        first, last = start >> REMOTE_SHIFT, (start + size - 1) >> REMOTE_SHIFT
        data = b"".join(self._blocks_of(first, last))
        skip = start - (first << REMOTE_SHIFT)
        return data[skip : skip + size]

    def _blocks_of(self, first: int, last: int) -> Iterable[bytes]:
        """Yield blocks in order; those that are missing and touch are asked for at once."""
        index = first
        while index <= last:
            if index not in self._kept:
                end = index
                while end < last and end + 1 not in self._kept and end - index < REMOTE_BLOCKS // 2:
                    end += 1
                self._fetch(index, end)
            yield self._kept.get(index, b"")
            index += 1

    def _fetch(self, first: int, last: int) -> None:
        start = first << REMOTE_SHIFT
        end = min(self.total, (last + 1) << REMOTE_SHIFT)
        store, path = self._store
        try:
            data = store.cat_file(path, start=start, end=end)
        except failures() as error:
            raise FileError(
                "the core cannot be read from its store",
                where=f"bytes {start} to {end} of {self.path}",
                seen=f"{type(error).__name__}: {error}",
            ) from error
        self.bytes_read += len(data)
        for index in range(first, last + 1):
            at = (index - first) << REMOTE_SHIFT
            while len(self._kept) >= REMOTE_BLOCKS:
                del self._kept[next(iter(self._kept))]
            self._kept[index] = bytes(data[at : at + (1 << REMOTE_SHIFT)])


Source = Part | Held | Remote


def is_url(path: str) -> bool:
    """Tell whether a path is one of a store: ``s3://…``, ``https://…``."""
    scheme, found, _ = path.partition("://")
    return bool(found) and scheme.replace("+", "").replace("-", "").isalnum()


def store_of(url: str, storage: Mapping[str, Any]) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path within it.

    :raises UsageError: if fsspec, or what it needs for such URLs, is not installed
    """
    try:
        import fsspec
    except ImportError as error:
        raise missing("fsspec", "scan") from error
    try:
        store, path = fsspec.core.url_to_fs(url, **storage)
    except ImportError as error:
        raise UsageError(
            "the package for this kind of URL is not installed", seen=url, hint=str(error)
        ) from error
    except ValueError as error:
        raise UsageError("no store is known for such a URL", seen=url, hint=str(error)) from error
    return store, str(path)


def failures() -> tuple[type[Exception], ...]:
    """Return what stores raise: the system's errors, and those of the packages that are in use."""
    found: list[type[Exception]] = [OSError, ValueError, EOFError]
    for module, name in _ROOTS:
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


_ROOTS = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("paramiko", "SSHException"),
)


def missing(package: str, extra: str) -> UsageError:
    """Return the error for an extra that is not installed."""
    return UsageError(
        f"{package} is not installed", hint=f"pip install 'vringcore[{extra}]' brings it"
    )


def open_file(path: str, storage: Mapping[str, Any]) -> Source:
    """Open a file or an object of a store.

    :raises FileError: if it cannot be opened
    """
    if not is_url(path):
        return Part.open(path, what="core")
    store, inner = store_of(path, storage)
    try:
        size = store.info(inner).get("size")
        if size is None:  # it does not say; whatever it has is read
            data = store.cat_file(inner)
            return Held(bytes(data), path)
    except failures() as error:
        raise FileError(
            "the object cannot be opened", where=path, seen=f"{type(error).__name__}: {error}"
        ) from error
    return Remote(store, inner, path, int(size))


def open_place(
    place: Place, storage: Mapping[str, Any], limit: int | None = None, tmpdir: str | None = None
) -> Source:
    """Open a core as it lies there: still packed, if it is packed by itself.

    :param limit: bytes that a member may unpack to
    :param tmpdir: where a deflated member is unpacked to
    :raises FileError: if it cannot be opened, or there is no room
    :raises CoreFormatError: if a deflated member is damaged
    :raises LimitError: if it unpacks to more than is allowed
    """
    source: Source
    if place.data is not None:
        source = Held(place.data, place.name)
    else:
        source = open_file(place.scratch or place.path, storage)
        if place.length is not None and isinstance(source, Part | Remote):
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
