"""Finding cores: files, directories, patterns, archives and stores, by content."""

from __future__ import annotations

import glob
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.errors import FileError, UsageError, VringcoreError
from vringcore.scan import recognise
from vringcore.scan.archives import Archives
from vringcore.scan.place import Place
from vringcore.scan.sources import failures, is_url, open_place, store_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.scan.place import Settings

LOOK_AHEAD = 16
"""Objects of a store that are looked at together: each takes the time of a request or two."""

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
    """

    def __init__(self, words: Iterable[str], settings: Settings, *, may_share: bool = True) -> None:
        self._words = list(words)
        self._settings = settings
        self._archives = Archives(settings.tmpdir, settings.max_unpacked, may_share=may_share)
        self.skipped: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._bytes = 1
        self._passed = self._within = 0

    @property
    def share(self) -> float:
        """How much of all bytes was gone through, from 0 to 1; 0 until the files are listed."""
        return min(1.0, (self._passed + self._within) / self._bytes)

    def check(self) -> None:
        """Refuse words that name nothing, before any work is done.

        :raises UsageError: if there are none, or one is no file, directory or match
        """
        if not self._words:
            raise UsageError("nothing to scan was named", hint="see `vringcore scan --help`")
        for word in self._words:
            if not is_url(word) and not os.path.lexists(word) and not _matches(word):
                raise UsageError("nothing is there to scan", seen=word)

    def places(self) -> Iterator[Place | Problem]:
        """Yield cores as they are found, in the order of the words and of names."""
        listed = list(self._files())
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

    def _members(self, place: Place, kind: str) -> Iterator[Place | Problem]:
        names: Counter[str] = Counter()
        with open_place(place, self._settings.storage) as source:
            for found in self._archives.members(place, source, kind):
                if found.problem:
                    message = f"the archive could not be read to its end: {found.problem}"
                    yield Problem(found.place, "archive", message)
                elif found.skipped:
                    self.skipped[found.skipped] += 1
                else:
                    names[found.place.member] += 1
                    self._within = found.place.offset
                    yield _numbered(found.place, names[found.place.member])

    def _kind(self, place: Place) -> str | Problem:
        try:
            with open_place(place, self._settings.storage) as source:
                return recognise.kind_of(source)
        except VringcoreError as error:
            return Problem(place, error.code, str(error))

    def _files(self) -> Iterator[Place]:
        """Yield every file named once, however often it is."""
        for word in self._words:
            for place in _stored(word, self._settings) if is_url(word) else self._local(word):
                if place.path not in self._seen:
                    self._seen.add(place.path)
                    yield place

    def _local(self, word: str) -> Iterator[Place]:
        for path in [word] if os.path.lexists(word) else _matches(word):
            if os.path.isdir(path):  # noqa: PTH112
                yield from self._below(path)
            else:
                yield from self._file(path, named=True)

    def _below(self, directory: str) -> Iterator[Place]:
        """Yield the regular files below a directory; links within it are not followed."""
        for folder, folders, files in os.walk(directory, onerror=self._unreadable):
            folders.sort()
            for name in sorted(files):
                yield from self._file(os.path.join(folder, name), named=False)  # noqa: PTH118

    def _unreadable(self, _error: OSError) -> None:
        self.skipped["directory that cannot be read"] += 1

    def _file(self, path: str, *, named: bool) -> Iterator[Place]:
        try:
            status = os.stat(path) if named else os.lstat(path)  # noqa: PTH116
        except OSError:
            self.skipped["gone"] += 1
            return
        if (status.st_mode & 0o170000) != 0o100000:
            self.skipped["no regular file"] += 1
            return
        yield Place(path, size=status.st_size, modified=round(status.st_mtime, 3))


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
        elif store.isfile(path) or url.startswith("http"):
            found = {path: store.info(path)}
        else:
            found = store.find(path, detail=True)
        entries = sorted(found.items())
    except failures() as error:
        raise FileError(
            "the store cannot be listed", where=url, seen=f"{type(error).__name__}: {error}"
        ) from error
    if not entries:
        raise FileError("nothing is there to scan", where=url)
    for name, facts in entries:
        if facts.get("type", "file") == "file":
            full = name if is_url(name) else store.unstrip_protocol(name)
            yield Place(full, size=int(facts.get("size") or 0), modified=_modified(facts))


def _modified(facts: dict[str, Any]) -> float | None:
    """Return the time of an object; every store has its own word for it."""
    for key in ("LastModified", "mtime", "updated", "last_modified", "created"):
        value = facts.get(key)
        if isinstance(value, int | float):
            return round(float(value), 3)
        stamp = getattr(value, "timestamp", None)
        if stamp is not None:
            return round(float(stamp()), 3)
    return None
