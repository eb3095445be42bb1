"""Finding cores: files, directories, patterns, archives and stores, by content."""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.errors import FileError, UsageError, VringcoreError
from vringcore.memory.files import kind_of
from vringcore.model.values import shown
from vringcore.scan import recognise
from vringcore.scan.access import open_place
from vringcore.scan.archives import Archives
from vringcore.scan.place import Place
from vringcore.scan.remote import check_url, failures, is_url, store_of, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.scan.access import Source
    from vringcore.scan.place import Settings

LOOK_AHEAD = 16
"""Objects of a store that are looked at together: each takes the time of a request or two."""

ARCHIVE = "archive"
"""The code of an archive, or a member, that could not be gone through to its end."""

_PATTERN = "*?["


class Problem(msgspec.Struct, frozen=True):
    """A place of which no core can be had, and why: it gets a row, too."""

    place: Place
    code: str
    message: str


class Finder:
    """Finds cores in what a user names.

    :param words: files, directories, patterns, URLs
    :param may_share: whether workers can open a temporary file of this machine
    :ivar skipped: files and members that are no cores, by the reason
    :ivar walked: directories, archives and stores that were gone through, as far as that went
    """

    def __init__(self, words: Iterable[str], settings: Settings, *, may_share: bool = True) -> None:
        self._words = list(words)
        self._settings = settings
        self._archives = Archives(settings.tmpdir, settings.max_unpacked, may_share=may_share)
        self.skipped: Counter[str] = Counter()
        self.walked: set[str] = set()
        self._seen: set[str | tuple[int, int]] = set()
        self._bytes = 1
        self._passed = self._within = 0

    @property
    def share(self) -> float:
        """How much of all bytes was gone through, from 0 to 1; 0 until the files are listed."""
        return min(1.0, (self._passed + self._within) / self._bytes)

    def check(self) -> None:
        """Refuse words that name nothing, before any work is done. No store is asked.

        :raises UsageError: if there are none, one is no file, directory or match, or a URL that
            nothing installed can open
        """
        if not self._words:
            raise UsageError("nothing to scan was named", hint="see `vringcore scan --help`")
        for word in self._words:
            if is_url(word):
                check_url(word)
            elif not os.path.lexists(word) and not _matches(word):
                raise UsageError("nothing is there to scan", seen=word)

    def places(self) -> Iterator[Place | Problem]:
        """Yield cores as they are found, in the order of the words and of names."""
        listed = []
        for found in self._files():
            if isinstance(found, Problem):
                yield found
            else:
                listed.append(found)
        self._bytes = sum(place.size for place in listed) or 1
        files = iter(listed)
        with ThreadPoolExecutor(LOOK_AHEAD) as threads:
            while batch := list(islice(files, LOOK_AHEAD)):
                if any(is_url(place.path) for place in batch):
                    kinds: Iterable[str | Problem] = threads.map(self._kind, batch)
                else:
                    kinds = map(self._kind, batch)
                for place, kind in zip(batch, kinds, strict=True):
                    if isinstance(kind, Problem):
                        yield kind
                    else:
                        yield from self._in(place, kind)
                    self._passed += place.size
                    self._within = 0

    def _in(self, place: Place, kind: str) -> Iterator[Place | Problem]:
        if kind == recognise.CORE:
            yield place
        elif kind not in recognise.ARCHIVES:
            self.skipped["no core"] += 1
        else:
            try:
                yield from self._members(place, kind)
            except VringcoreError as error:
                yield Problem(place, error.code, str(error))
            self.walked.add(shown(place.path))

    def _members(self, place: Place, kind: str) -> Iterator[Place | Problem]:
        names: Counter[str] = Counter()
        with self._open(place) as source:
            for found in self._archives.members(place, source, kind):
                if found.problem:
                    yield Problem(found.place, ARCHIVE, found.problem)
                elif found.skipped:
                    self.skipped[found.skipped] += 1
                else:
                    names[found.place.member] += 1
                    self._within = found.place.offset
                    yield _numbered(found.place, names[found.place.member])

    def _kind(self, place: Place) -> str | Problem:
        try:
            with self._open(place) as source:
                return recognise.kind_of(source)
        except VringcoreError as error:
            return Problem(place, error.code, str(error))

    def _open(self, place: Place) -> Source:
        return open_place(place, self._settings.storage, tmpdir=self._settings.tmpdir)

    def _files(self) -> Iterator[Place | Problem]:
        """Yield every file named once, however often and by whatever path it is."""
        for word in self._words:
            for found in self._objects(word) if is_url(word) else self._local(word):
                if isinstance(found, Problem):
                    yield found
                elif found.path not in self._seen:
                    self._seen.add(found.path)
                    yield found

    def _objects(self, url: str) -> Iterator[Place | Problem]:
        try:
            yield from _stored(url, self._settings)
        except FileError as error:
            yield Problem(Place(url), error.code, str(error))
        else:
            if url not in self._seen:  # it is no object itself
                self.walked.add(shown(url))

    def _local(self, word: str) -> Iterator[Place | Problem]:
        for path in [word] if os.path.lexists(word) else _matches(word):
            if os.path.isdir(path):  # noqa: PTH112
                yield from self._below(path)
            else:
                yield from self._file(path, named=path == word)

    def _below(self, directory: str) -> Iterator[Place | Problem]:
        """Yield the regular files below a directory; links within it are not followed."""
        unreadable: list[OSError] = []
        for folder, folders, files in os.walk(directory, onerror=unreadable.append):
            self.walked.add(shown(folder))
            folders.sort()
            for name in sorted(files):
                yield from self._file(os.path.join(folder, name), named=False)  # noqa: PTH118
            yield from map(_unreadable, unreadable)
            unreadable.clear()
        yield from map(_unreadable, unreadable)

    def _file(self, path: str, *, named: bool) -> Iterator[Place | Problem]:
        """Yield a file; of one that is none, a row says so only if the user named it."""
        try:
            status = os.stat(path) if named else os.lstat(path)  # noqa: PTH116
        except OSError as error:
            if named:
                yield Problem(Place(path), FileError.code, f"{error.strerror}: {path}")
            else:
                self.skipped["gone"] += 1
            return
        if not stat.S_ISREG(status.st_mode):
            if named:
                what = f"{kind_of(status.st_mode)} is no file with a core: {path}"
                yield Problem(Place(path), FileError.code, what)
            else:
                self.skipped["no regular file"] += 1
            return
        same = status.st_dev, status.st_ino
        if status.st_ino and same in self._seen:
            self.skipped["the same file by another path"] += path not in self._seen
            return
        self._seen.add(same)
        yield Place(path, size=status.st_size, modified=round(status.st_mtime, 3))


def _unreadable(error: OSError) -> Problem:
    message = f"the directory cannot be read: {error.strerror}: {error.filename}"
    return Problem(Place(str(error.filename)), FileError.code, message)


def _numbered(place: Place, count: int) -> Place:
    """Tell members of one name apart: an archive may have any number of them."""
    if count == 1:
        return place
    return msgspec.structs.replace(place, member=f"{place.member}#{count}")


def _matches(pattern: str) -> list[str]:
    if not any(sign in pattern for sign in _PATTERN):
        return []
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207


def _stored(url: str, settings: Settings) -> Iterator[Place]:
    """Yield the objects that a URL names: one, those below it, or those that match.

    :raises UsageError: if nothing can open such a URL
    :raises FileError: if the store refuses
    """
    store, path = store_of(url, settings.storage)
    try:
        if any(sign in path for sign in "*[") or ("?" in path and not url.startswith("http")):
            found = store.glob(path, detail=True)
        elif url.startswith("http") or store.isfile(path):
            found = {path: store.info(path)}
        else:
            found = store.find(path, detail=True)
            if not found:
                store.info(path)  # raises what listing it hid
        entries = sorted(found.items())
    except failures() as error:
        raise FileError("the store cannot be listed", where=url, seen=told(error)) from error
    if not entries:
        raise FileError("nothing is there to scan", where=url)
    for name, facts in entries:
        if facts.get("type", "file") == "file":
            yield Place(
                _full(name, url, path, store),
                size=int(facts.get("size") or 0),
                modified=_modified(facts),
            )


def _full(name: str, url: str, path: str, store: Any) -> str:
    """Return the URL of an object in the store that ``url`` names as ``path``.

    What stands before the path is kept: some stores forget their host.
    """
    if is_url(name):
        return name
    whole, inner = url.rstrip("/"), path.rstrip("/")
    if whole.endswith(inner) and (inner or name.startswith("/")):
        return whole[: len(whole) - len(inner)] + name
    return str(store.unstrip_protocol(name))


def _modified(facts: dict[str, Any]) -> float | None:
    """Return the time of an object; every store has its own word for it."""
    for key in ("LastModified", "mtime", "updated", "last_modified", "created"):
        value = facts.get(key)
        if isinstance(value, int | float):
            return round(float(value), 3)
        stamp = getattr(value, "timestamp", None)
        if stamp is not None:
            return round(float(stamp()), 3)
    return _http_date(facts.get("Last-Modified"))


def _http_date(text: object) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(str(text)).timestamp()
    except ValueError:
        return None
