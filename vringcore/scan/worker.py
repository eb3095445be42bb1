"""What a worker does with one core: everything that can go wrong is in the row."""

from __future__ import annotations

import gc
import os
import time
from functools import cache
from typing import TYPE_CHECKING

from vringcore.errors import DebugInfoMissingError, VringcoreError
from vringcore.model.error import ErrorDetail
from vringcore.model.scan import RowCost
from vringcore.scan.access import open_place
from vringcore.scan.opening import Builds, open_core_of
from vringcore.scan.remote import is_url
from vringcore.scan.rows import Known, detail_of

if TYPE_CHECKING:
    from vringcore.model.scan import ScanRow
    from vringcore.scan.place import Place, Settings

QUICK_PARTS = ("devices", "queues", "requests")
"""What is asked of a core where no verdict is wanted."""

COLLECT_EVERY = 16
"""Cores between two collections of what refers to itself: collecting all the time costs a tenth.

What is left then is known of builds, and not looked through again.
"""


class Worker:
    """Reads cores one after the other, and keeps what is known of builds between them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._builds = Builds(settings)
        self._done = 0

    def row(self, place: Place, attempts: int = 1) -> ScanRow:
        """Return the row of one core; nothing is raised."""
        row = self._read(place, attempts)
        self._tidy()  # not before what was read is out of reach
        return row

    def _read(self, place: Place, attempts: int) -> ScanRow:
        start, cpu = time.monotonic(), time.thread_time()
        known = Known(place)
        source = None
        error: ErrorDetail | None = None
        try:
            settings = self._settings
            source = open_place(place, settings.storage, settings.max_unpacked, settings.tmpdir)
            with open_core_of(source, self._settings, self._builds) as core:
                known.core(core.info)
                known.qemu(core.qemu)
                report = core.why() if self._settings.why else core.report(QUICK_PARTS)
                known.report(report, self._settings.tables)
        except DebugInfoMissingError as problem:
            error = detail_of(problem if self._settings.sysroot else _no_files(problem))
        except VringcoreError as problem:
            error = detail_of(problem)
        except MemoryError:
            error = out_of_memory(place, self._settings.memory)
        except Exception as problem:  # noqa: BLE001 - one core's failure costs that core alone
            error = _bug(place, problem)
        error = _changed(place, error) or error
        cost = RowCost(
            seconds=round(time.monotonic() - start, 4),
            cpu_seconds=round(time.thread_time() - cpu, 4),
            bytes_read=0 if source is None else source.bytes_read,
            attempts=attempts,
        )
        return known.row(cost, error)

    def _tidy(self) -> None:
        self._done += 1
        if self._done % COLLECT_EVERY == 0 and not gc.isenabled():  # the process is ours alone
            gc.collect()
            gc.freeze()


def start_worker(memory: int) -> None:
    """Prepare a process that does nothing else: its memory is limited, once for all cores."""
    gc.disable()
    if memory:
        limit_memory(memory)


def limit_memory(size: int) -> None:
    """Let this process allocate ``size`` bytes and no more, where the system can do that."""
    try:
        import resource
    except ImportError:  # not Unix
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


@cache
def worker_of(settings: bytes) -> Worker:
    """Return this process's worker for settings, which come encoded so that they can be a key."""
    import msgspec

    from vringcore.scan.place import Settings

    return Worker(msgspec.msgpack.decode(settings, type=Settings))


def scan_place(place: Place, settings: bytes, attempts: int = 1) -> ScanRow:
    """Return the row of the core at a place: what pools and clusters run."""
    return worker_of(settings).row(place, attempts)


def out_of_memory(place: Place, limit: int) -> ErrorDetail:
    """Return the reason of a core that took too much."""
    return ErrorDetail(
        "out-of-memory",
        f"the core took more memory than a worker may have at {place.name}",
        place.name,
        f"more than {limit} bytes",
        "",
        "allow more with --memory, or ask this core alone with `vringcore why`",
    )


def _changed(place: Place, error: ErrorDetail | None) -> ErrorDetail | None:
    """Return the reason of a core whose file is another than when it was found, None if it is not.

    :param error: what reading it came to
    """
    if place.member or place.modified is None or is_url(place.path):
        return None
    try:
        status = os.stat(place.path)  # noqa: PTH116
    except OSError:
        return None  # it is gone: what was read of it stands
    if (status.st_size, round(status.st_mtime, 3)) == (place.size, place.modified):
        return None
    return ErrorDetail(
        "changed",
        f"the core was written to while it was scanned: {place.name}",
        place.name,
        f"{place.size} bytes, then {status.st_size}" + (f"; {error.message}" if error else ""),
        "",
        "--resume reads it again; what the row says may be of two moments",
    )


def _no_files(problem: DebugInfoMissingError) -> DebugInfoMissingError:
    """Return the error with what helps in a scan, which does not look up what cores name."""
    return DebugInfoMissingError(
        "no debug information for the program",
        where=problem.where,
        seen="no file given is of this build, and those that a core names are not looked up",
        hint="name QEMU's binary with -e, or with --sysroot / look up what cores name; small cores"
        " by `vringcore slim` need neither",
    )


def _bug(place: Place, problem: Exception) -> ErrorDetail:
    from traceback import extract_tb

    frames = extract_tb(problem.__traceback__)
    where = f"{frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    what = f"{type(problem).__name__}: {problem}"
    return ErrorDetail(
        "bug",
        f"this is a bug in vringcore, not in the core: {what} ({where})",
        place.name,
        what,
        "",
        "please report it, if you can with a small core by `vringcore slim`",
    )
