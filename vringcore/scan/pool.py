"""Workers of this machine: processes, each core under a time limit, a dead one replaced."""

from __future__ import annotations

import multiprocessing
import os
import queue
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.scan.remote import missing
from vringcore.scan.rows import failed
from vringcore.scan.scratch import forget
from vringcore.scan.worker import scan_place, start_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.scan import ScanRow
    from vringcore.scan.place import Place, Settings

AHEAD = 3
"""Cores handed out for each worker, so that none waits and little is in memory."""

ATTEMPTS = 2
"""A core is tried again where its worker died: something else may have killed it."""

MAX_TASKS = 2000
"""Cores of one worker: what it keeps of builds does not grow for ever."""


class Pool:
    """Processes that read cores.

    They are spawned, not forked: whoever embeds this may have threads and open connections.
    """

    def __init__(self, settings: Settings, workers: int = 0) -> None:
        """Make a pool; processes start with the first core.

        :param workers: processes; 0 for as many as there are processors
        :raises UsageError: if pebble is not installed
        """
        try:
            import pebble
        except ImportError as error:
            raise missing("pebble", "scan") from error
        self._pebble = pebble
        self._settings = settings
        self._encoded = msgspec.msgpack.encode(settings)
        self.workers = workers or _processors()

    def rows(self, places: Iterator[Place]) -> Iterator[ScanRow]:
        """Yield rows as they are finished; ``places`` is asked as there is room.

        Nothing goes on when this is closed.
        """
        run = _Run(self)
        try:
            yield from run.rows(places)
        finally:
            run.stop()

    def start(self) -> Any:
        """Return a new pool of pebble's."""
        return self._pebble.ProcessPool(
            max_workers=self.workers,
            max_tasks=MAX_TASKS,
            initializer=start_worker,
            initargs=(self._settings.memory,),
            context=multiprocessing.get_context("spawn"),
        )

    def submit(self, pool: Any, place: Place, attempts: int) -> Any:
        """Return the future of a row."""
        return pool.schedule(
            scan_place, args=(place, self._encoded, attempts), timeout=self._settings.timeout
        )

    def reason(self, place: Place, error: BaseException, attempts: int) -> ScanRow:
        """Return the row of a core whose worker did not answer."""
        if isinstance(error, TimeoutError):
            return failed(
                place,
                "timed-out",
                f"the core took longer than {self._settings.timeout:g} s at {place.name}",
                attempts=attempts,
                hint="allow more with --timeout, or ask this core alone",
            )
        code = getattr(error, "exitcode", None)
        how = f"by signal {-code}" if isinstance(code, int) and code < 0 else f"with {code}"
        return failed(
            place,
            "worker-died",
            f"the worker ended {how} on the core, {attempts} times, at {place.name}",
            attempts=attempts,
            hint="it may have taken too much memory: see --memory and --workers",
        )


class _Run:
    """One pass over many cores."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._running = pool.start()
        self._finished: queue.SimpleQueue[tuple[Any, Place, int]] = queue.SimpleQueue()
        self._open: dict[Any, Place] = {}

    def rows(self, places: Iterator[Place]) -> Iterator[ScanRow]:
        more = True
        while more or self._open:
            while more and len(self._open) < self._pool.workers * AHEAD:
                place = next(places, None)
                if place is None:
                    more = False
                else:
                    self._submit(place, 1)
            if self._open:
                future, place, attempts = self._finished.get()
                del self._open[future]
                row = self._row(future, place, attempts)
                if row is not None:
                    yield row

    def stop(self) -> None:
        """End the workers, at once where they still work."""
        if self._open:
            self._running.stop()
        else:
            self._running.close()
        self._running.join()
        for place in self._open.values():
            forget(place.scratch)

    def _submit(self, place: Place, attempts: int) -> None:
        future = self._pool.submit(self._running, place, attempts)
        self._open[future] = place
        future.add_done_callback(lambda done: self._finished.put((done, place, attempts)))

    def _row(self, future: Any, place: Place, attempts: int) -> ScanRow | None:
        """Return the row that came, or that of the failure; None if the core is tried again."""
        try:
            row: ScanRow = future.result()
        except TimeoutError as error:
            row = self._pool.reason(place, error, attempts)
        except (CancelledError, RuntimeError, OSError, EOFError) as error:
            # What pebble raises for a worker, or all of them, that died.
            if attempts < ATTEMPTS:
                if not self._running.active:
                    self._running = self._pool.start()
                self._submit(place, attempts + 1)
                return None
            row = self._pool.reason(place, error, attempts)
        forget(place.scratch)
        return row


def _processors() -> int:
    able = getattr(os, "sched_getaffinity", None)
    return len(able(0)) if able is not None else os.cpu_count() or 1
