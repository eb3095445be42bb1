"""Objects of stores: read by range where the store can do that, else from the beginning on."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vringcore.elfcore.compressed import Target
from vringcore.errors import FileError, UsageError
from vringcore.memory.files import FileSource
from vringcore.scan.sources import NO_FILE, Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BLOCK_SHIFT = 17
"""Objects of a store are read in blocks of 128 KiB: a request costs more than its bytes."""

MAX_BLOCKS = 256
"""32 MiB of them are kept for each core."""

_PIECE = 1 << 20
_WEB = ("http://", "https://")


class Remote(FileSource):
    """An object of a store, read by range through a cache of blocks.

    A web server need not know ranges. Then what lies before a range is read, too, and kept in a
    temporary file: all of it where the end is asked for.

    :ivar bytes_read: what the store gave
    """

    __slots__ = ("_base", "_kept", "_path", "_store", "_stream", "_tmpdir", "_total", "bytes_read")

    def __init__(
        self, store: Any, path: str, name: str, size: int, tmpdir: str | None = None
    ) -> None:
        super().__init__(NO_FILE, name, size, "core")
        self._store = store
        self._path = path
        self._tmpdir = tmpdir
        self._kept: dict[int, bytes] = {}
        self._stream: _Stream | None = None
        self._base = 0
        self._total = size
        self.bytes_read = 0

    def narrow(self, offset: int, length: int) -> Remote:
        """Show ``length`` bytes from ``offset`` on alone."""
        self._base = offset
        self.size = max(0, min(length, self._total - offset))
        return self

    def pread(self, offset: int, size: int) -> bytes:
        """Return bytes as :meth:`FileSource.pread` does, from whole blocks.

        :raises FileError: if the store refuses
        """
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        start = self._base + offset
        first, last = start >> BLOCK_SHIFT, (start + size - 1) >> BLOCK_SHIFT
        data = b"".join(self._blocks_of(first, last))
        skip = start - (first << BLOCK_SHIFT)
        return data[skip : skip + size]

    def close(self) -> None:
        """Let go of the object."""
        super().close()
        stream, self._stream = getattr(self, "_stream", None), None
        if stream is not None:
            stream.close()

    def _blocks_of(self, first: int, last: int) -> Iterable[bytes]:
        """Yield blocks in order; those that are missing and touch are asked for at once."""
        index = first
        while index <= last:
            if index not in self._kept:
                end = index
                while end < last and end + 1 not in self._kept and end - index < MAX_BLOCKS // 2:
                    end += 1
                self._fetch(index, end)
            yield self._kept.get(index, b"")
            index += 1

    def _fetch(self, first: int, last: int) -> None:
        start = first << BLOCK_SHIFT
        end = min(self._total, (last + 1) << BLOCK_SHIFT)
        try:
            data = self._range(start, end)
        except failures() as error:
            raise FileError(
                "the core cannot be read from its store",
                where=f"bytes {start} to {end} of {self.path}",
                seen=told(error),
            ) from error
        for index in range(first, last + 1):
            at = (index - first) << BLOCK_SHIFT
            while len(self._kept) >= MAX_BLOCKS:
                del self._kept[next(iter(self._kept))]
            self._kept[index] = bytes(data[at : at + (1 << BLOCK_SHIFT)])

    def _range(self, start: int, end: int) -> bytes:
        if not self._path.startswith(_WEB):
            data = bytes(self._store.cat_file(self._path, start=start, end=end))
            self.bytes_read += len(data)
            return data
        if self._stream is None:
            try:
                data = _web_range(self._store, self._path, self._total, start, end)
            except ValueError:  # what fsspec raises for a server that sends something else
                self._stream = _Stream(self._store, self._path, self.path, self._tmpdir)
            else:
                self.bytes_read += len(data)
                return data
        data = self._stream.read(start, end)
        self.bytes_read = self._stream.size
        return data


def _web_range(store: Any, path: str, total: int, start: int, end: int) -> bytes:
    """Return a range from a web server.

    :raises ValueError: if it sends more than that
    """
    with store.open(path, block_size=1 << BLOCK_SHIFT, cache_type="none", size=total) as file:
        file.seek(start)
        return bytes(file.read(end - start))


class _Stream:
    """An object that can only be read from its beginning on: kept as far as it was read.

    :ivar size: bytes read so far
    """

    def __init__(self, store: Any, path: str, name: str, tmpdir: str | None) -> None:
        self._target = Target(name, tmpdir, None)
        self._file = store.open(path, block_size=0)
        self._part: Part | None = None

    @property
    def size(self) -> int:
        return self._target.size

    def read(self, start: int, end: int) -> bytes:
        """Return a range, fewer bytes only where the object ends."""
        grown = self._part is None
        while self._target.size < end and (piece := self._file.read(_PIECE)):
            self._target.write(piece)
            grown = True
        if grown or self._part is None:
            if self._part is not None:
                self._part.close()
            self._part = Part.of(self._target.source())
        return self._part.pread(start, end - start)

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
        self._target.__exit__()
        with suppress(*failures()):
            self._file.close()


def is_url(path: str) -> bool:
    """Tell whether a path is one of a store: ``s3://…``, ``https://…``."""
    scheme, found, _ = path.partition("://")
    return bool(found) and scheme.replace("+", "").replace("-", "").isalnum()


def check_url(url: str) -> None:
    """Refuse a URL that nothing installed can open, without asking its store.

    :raises UsageError: then, or if it has a password
    """
    scheme, _, rest = url.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and ":" in user:
        raise UsageError(
            "a password in a URL would stand in every row",
            seen=f"{scheme}://...@...",
            hint="give it by --storage password=..., or let the store's package find it",
        )
    try:
        import fsspec
    except ImportError as error:
        raise missing("fsspec", "scan") from error
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        raise UsageError(
            "the package for this kind of URL is not installed",
            seen=url,
            hint=f"pip install {package}" if package else str(error),
        ) from error
    except ValueError as error:
        raise UsageError("no store is known for such a URL", seen=url, hint=str(error)) from error


_PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp requests",  # fsspec names both
    "https": "aiohttp requests",
    "sftp": "paramiko",
    "ssh": "paramiko",
}
"""What fsspec needs for the URLs that are asked for most; of others it says so itself."""


def store_of(url: str, storage: Mapping[str, Any]) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path within it.

    :raises UsageError: if fsspec, or what it needs for such URLs, is not installed, or an option
        is none of the store's
    :raises FileError: if the store cannot be reached, or lets nobody in
    """
    check_url(url)
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(url, **storage)
    except TypeError as error:
        raise UsageError(
            "the store does not know an option", where=url, seen=str(error), hint="see --storage"
        ) from error
    except failures() as error:
        raise FileError("the store cannot be reached", where=url, seen=told(error)) from error
    return store, str(path)


def open_object(url: str, storage: Mapping[str, Any], tmpdir: str | None) -> Remote | Part:
    """Open an object of a store.

    :raises FileError: if it cannot be opened
    """
    store, path = store_of(url, storage)
    try:
        size = store.info(path).get("size")
        if size is not None:
            return Remote(store, path, url, int(size), tmpdir)
        return _whole(store, path, url, tmpdir)
    except failures() as error:
        raise FileError("the object cannot be opened", where=url, seen=told(error)) from error


def _whole(store: Any, path: str, url: str, tmpdir: str | None) -> Part:
    """Return an object of which the store does not say how large it is: all of it is read."""
    with Target(url, tmpdir, None) as target, store.open(path, block_size=0) as file:
        while piece := file.read(_PIECE):
            target.write(piece)
        whole = Part.of(target.source())
    whole.bytes_read = whole.size
    return whole


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
    ("google.auth.exceptions", "GoogleAuthError"),
    ("paramiko", "SSHException"),
)


def told(error: Exception) -> str:
    """Return what a store raised in words: fsspec calls all that a web server says "not found"."""
    cause = error.__cause__
    shown = cause if isinstance(error, FileNotFoundError) and cause is not None else error
    return f"{type(shown).__name__}: {shown}"


def missing(package: str, extra: str) -> UsageError:
    """Return the error for an extra that is not installed."""
    return UsageError(
        f"{package} is not installed", hint=f"pip install 'vringcore[{extra}]' brings it"
    )
