"""A scan: from paths to rows, on this machine or on a cluster, goings-on told on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import msgspec

from vringcore.errors import UsageError
from vringcore.scan.find import ARCHIVE, Finder, Problem
from vringcore.scan.journal import Journal
from vringcore.scan.place import PARTS, Settings
from vringcore.scan.pool import Pool
from vringcore.scan.rows import failed, time_of
from vringcore.scan.scratch import forget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from vringcore.model.scan import ScanRow
    from vringcore.scan.place import Place


class Scan:
    """Rows of many cores as they are finished: iterate over it, once. Dropping it ends it.

    :ivar skipped: files and members that are no cores, by the reason
    :ivar found: cores found so far
    :ivar done: rows so far, of this run
    :ivar failed: those of them with an error
    :ivar resumed: cores that had their row already
    """

    def __init__(
        self,
        paths: Iterable[str],
        settings: Settings,
        *,
        workers: int = 0,
        client: Any = None,
        journal: Journal | None = None,
        progress: Callable[[Scan], None] | None = None,
    ) -> None:
        self.journal = journal
        self._rows: Any = None
        self._is_open = True
        self._finder = Finder(paths, settings, may_share=client is None)
        self._finder.check()
        pool: Any
        if client is None:
            pool = Pool(settings, workers)
        else:
            from vringcore.scan.cluster import Cluster

            pool = Cluster(settings, client)
        self._progress = progress
        self._problems: list[ScanRow] = []
        self._troubled: set[tuple[str, str]] = set()
        self._rows = pool.rows(_places(self._finder, ref(self)))
        self.skipped = self._finder.skipped
        self.found = self.done = self.failed = self.resumed = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ScanRow:
        """Return the next row; the scan is closed after the last, and by whatever goes wrong."""
        if not self._is_open:
            raise StopIteration
        try:
            row = None if self._problems else next(self._rows, None)
            if row is None and self._problems:
                row = self._problems.pop(0)
            if row is not None:
                return self._kept(row)
            if self.journal is not None:
                self.journal.finish(self._is_over)
            raise StopIteration
        except BaseException:
            self.close()
            raise

    @property
    def share(self) -> float:
        """How much of all bytes that were named was gone through, from 0 to 1."""
        return self._finder.share

    def close(self) -> None:
        """End the workers and the file of rows; what is finished stays."""
        self._is_open = False
        try:
            if self._rows is not None:
                self._rows.close()
        finally:
            if self.journal is not None:
                self.journal.close()

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def to_arrow(self) -> Any:
        """Return all rows as a ``pyarrow.Table``, nested values flat (``verdict_code``).

        :raises UsageError: if pyarrow is not installed
        """
        from vringcore.scan.tables import arrow_table

        return arrow_table(self._in_order())

    def to_pandas(self) -> Any:
        """Return all rows as a ``pandas.DataFrame``; see :meth:`to_arrow`.

        :raises UsageError: if pandas is not installed
        """
        from vringcore.scan.tables import data_frame

        return data_frame(self._in_order())

    def _in_order(self) -> Iterator[ScanRow]:
        """Yield all rows by path and member; nothing is scanned before the first is asked for."""
        yield from sorted(self, key=_key)

    def _kept(self, row: ScanRow) -> ScanRow:
        if self.journal is not None:
            self.journal.add(row)
        self.done += 1
        self.failed += row.error is not None
        if self._progress is not None:
            self._progress(self)
        return row

    def _is_over(self, path: str, member: str, code: str) -> bool:
        """Tell whether an archive, directory or store that was not read to its end now was."""
        if path not in self._finder.walked or (path, member) in self._troubled:
            return False
        return not member or code == ARCHIVE

    def _wanted(self, found: Place | Problem) -> Place | None:
        """Return a core that has no row yet."""
        place = found.place if isinstance(found, Problem) else found
        if isinstance(found, Problem):
            self._troubled.add(place.key)
        if self.journal is not None and self.journal.has(place, time_of(place.modified)):
            self.resumed += 1
            forget(place.scratch)
            return None
        self.found += 1
        if isinstance(found, Problem):
            self._problems.append(failed(place, found.code, found.message))
        if self._progress is not None:
            self._progress(self)
        return None if isinstance(found, Problem) else place


def _places(finder: Finder, of: ref[Scan]) -> Iterator[Place]:
    """Yield the cores that have no row yet.

    Who stops in the middle drops the scan, and its workers end at once: nothing here may hold it.
    """
    for found in finder.places():
        scan = of()
        place = None if scan is None else scan._wanted(found)
        del scan
        if place is not None:
            yield place


def scan(
    *paths: str,
    out: str | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    workers: int = 0,
    client: Any = None,
    progress: Callable[[Scan], None] | None = None,
    **settings: Any,
) -> Scan:
    """Return the rows of many cores, as they are finished.

        for row in vringcore.scan("/srv/cores"):
            print(row.path, row.verdict.summary if row.verdict else row.error)

    :param paths: files, directories, patterns, tar and zip archives, URLs of stores
    :param out: a file for the rows, a JSON line each, written as each is finished
    :param resume: go on with that file
    :param retry_failed: read cores again that have an error there
    :param workers: processes; 0 for as many as there are processors
    :param client: a ``distributed.Client``, or a scheduler's address: its workers read the cores
    :param progress: called with the scan whenever it has come further
    :param settings: fields of :class:`vringcore.scan.place.Settings`: ``executables``, ``why``,
        ``tables``, ``timeout``, ``memory`` …
    :raises UsageError: if a path names nothing, or what is needed is not installed
    :raises FileError: if ``out`` cannot be written
    """
    try:
        chosen = msgspec.convert(settings, Settings, strict=False)
        unknown = settings.keys() - set(Settings.__struct_fields__)
    except msgspec.ValidationError as error:
        raise UsageError("a setting of the scan is wrong", seen=str(error)) from error
    _check_names("setting", unknown, Settings.__struct_fields__)
    _check_names("table", set(chosen.tables) - set(PARTS), PARTS)
    _check(chosen)
    journal = None if out is None else Journal(out, resume=resume, retry=retry_failed)
    try:
        return Scan(
            paths, chosen, workers=workers, client=client, journal=journal, progress=progress
        )
    except BaseException:
        if journal is not None:
            journal.close()
        raise


def _check_names(what: str, unknown: set[str], known: Iterable[str]) -> None:
    if unknown:
        raise UsageError(
            f"a scan has no such {what}",
            seen=", ".join(sorted(unknown)),
            expected="any of " + ", ".join(known),
        )


def _check(settings: Settings) -> None:
    """Refuse files that are named and cannot be used, before any work is done."""
    from vringcore.elfcore.executable import read_executable
    from vringcore.memory.files import FileSource

    for path in settings.executables:
        with FileSource.open(path, what="executable") as source:
            read_executable(source)
    for path in (*settings.debug_files, *([settings.layout] if settings.layout else [])):
        FileSource.open(path).close()


def _key(row: ScanRow) -> tuple[str, str]:
    return row.key
