"""Workers of this machine: processes, each core under a time limit, a dead one replaced.

Each worker has a pipe of its own. Workers that share one, as those of pools of processes do, share
its lock, too, and one that is killed while it holds the lock stops all the others for ever.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import UsageError
from vringcore.scan.process import WorkerProcess
from vringcore.scan.rows import failed
from vringcore.scan.scratch import forget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.scan import ScanRow
    from vringcore.scan.place import Place, Settings

AHEAD = 2
"""Cores found for each worker before it asks, so that none waits and little is in memory."""

ATTEMPTS = 2
"""A core is tried again where its worker died: something else may have killed it."""

FAILED_STARTS = 3
"""Workers that end before they are ready, and nothing comes from others: no more are started, and
where there are no others, none ever will be."""

MOST_ON_WINDOWS = 60
"""Its WaitForMultipleObjects takes 64 handles, some of them multiprocessing's own."""

LOOK_SECONDS = 1.0
"""The longest wait without a look at the clock: it goes on while all processes are stopped."""


class Pool:
    """Processes that read cores.

    They are spawned, not forked: whoever embeds this may have threads and open connections.
    """

    def __init__(self, settings: Settings, workers: int = 0) -> None:
        """Make a pool; processes start with the first core.

        :param workers: processes; 0 for as many as there are processors; on Windows, which waits
            for no more at once, :data:`MOST_ON_WINDOWS`
        """
        self._settings = settings
        self._encoded = msgspec.msgpack.encode(settings)
        self.workers = workers or _processors()
        if sys.platform == "win32":
            self.workers = min(self.workers, MOST_ON_WINDOWS)

    def rows(self, places: Iterator[Place]) -> Iterator[ScanRow]:
        """Yield rows as they are finished; ``places`` is asked as there is room.

        Nothing goes on when this is closed.

        :raises UsageError: if workers do not start
        """
        run = _Run(self)
        try:
            yield from run.rows(places)
        finally:
            run.stop()

    def start(self) -> WorkerProcess:
        """Return a new worker."""
        return WorkerProcess(self._encoded, self._settings)

    def reason(self, place: Place, attempts: int, ended: int | None, *, late: bool) -> ScanRow:
        """Return the row of a core whose worker did not answer.

        :param ended: its exit code, below zero the signal, None if it is not known
        :param late: it was ended for the time that it took
        """
        if late:
            return failed(
                place,
                "timed-out",
                f"the core took longer than {self._settings.timeout:g} s at {place.name}",
                attempts=attempts,
                hint="allow more with --timeout, or ask this core alone",
            )
        return failed(
            place,
            "worker-died",
            f"the worker ended {_how(ended)} on the core, {attempts} times, at {place.name}",
            attempts=attempts,
            hint="it may have taken too much memory: see --memory and --workers",
        )


class _Run:
    """One pass over many cores."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._workers: list[WorkerProcess] = []
        self._waiting: deque[tuple[Place, int]] = deque()
        self._failed_starts = 0
        self._most = pool.workers

    def rows(self, places: Iterator[Place]) -> Iterator[ScanRow]:
        more = True
        while True:
            self._hand_out()
            wanted = more and len(self._waiting) < self._pool.workers * AHEAD
            if wanted:
                # One, and then the workers again: it may be a member that is unpacked first.
                place = next(places, None)
                if place is None:
                    more = wanted = False
                else:
                    self._waiting.append((place, 1))
            if not (more or self._waiting or any(worker.task for worker in self._workers)):
                return
            for worker in self._heard(at_once=wanted):
                row = self._hear(worker)
                if row is not None:
                    self._hand_out()  # before somebody does something with the row
                    yield row

    def stop(self) -> None:
        """End the workers, at once where they still work."""
        for place, _ in self._waiting:
            forget(place.scratch)
        for worker in self._workers:
            worker.leave()
            if worker.task is not None:
                forget(worker.task[0].scratch)
        for worker in self._workers:
            worker.end()

    def _hand_out(self) -> None:
        """Give cores to workers that have none, and start workers for those that are left."""
        for worker in list(self._workers):
            if self._waiting and not worker.is_waited_for:
                if not worker.left:
                    self._drop(worker)
                    continue
                task = self._waiting.popleft()
                try:
                    worker.give(*task)
                except OSError:  # it was killed while it had nothing to do
                    self._waiting.appendleft(task)
                    self._drop(worker)
        if self._failed_starts < FAILED_STARTS or not self._workers:
            self._start()

    def _start(self) -> None:
        """Start workers for the cores that wait."""
        starting = sum(not worker.is_ready for worker in self._workers)
        room = self._most - len(self._workers)
        for _ in range(min(room, len(self._waiting) - starting)):
            try:
                self._workers.append(self._pool.start())
            except OSError as error:
                self._make_do(error)
                return

    def _make_do(self, error: OSError) -> None:
        """Go on with the workers that there are: the system refuses another.

        :raises UsageError: if there are none
        """
        reason = error.strerror or str(error)
        if not self._workers:
            raise _no_workers(f"the system refuses them: {reason}") from error
        self._most = max(1, len(self._workers) - 1)  # cores need to be opened, too
        newest = self._workers[-1]
        if len(self._workers) > self._most and newest.task is None:
            newest.leave()
            self._drop(newest)

    def _heard(self, *, at_once: bool) -> Iterator[WorkerProcess]:
        """Yield the workers that have something to say, ended, or took too long."""
        waited_for = [worker.due for worker in self._workers if worker.is_waited_for]
        now = time.monotonic()
        timeout = 0.0
        if waited_for and not at_once:
            timeout = min(LOOK_SECONDS, max(0.0, min(waited_for) - now))
        heard = wait([worker.connection for worker in self._workers], timeout)
        stopped = time.monotonic() - now - timeout
        if stopped > LOOK_SECONDS:  # all of us, by Ctrl-Z: that is no time that a core took
            for worker in self._workers:
                worker.due += stopped
        for worker in list(self._workers):
            # While a row is looked at, others may have been found to have ended.
            if worker in self._workers and (worker.connection in heard or worker.is_late):
                yield worker

    def _hear(self, worker: WorkerProcess) -> ScanRow | None:
        """Return the row that came, or that of the failure, if the core is not tried again."""
        late = worker.is_late
        if late:
            worker.leave()
        else:
            with suppress(EOFError, OSError):
                row = worker.receive()
                self._failed_starts = 0
                if row is None:
                    worker.is_ready = True
                elif worker.task is not None:
                    forget(worker.task[0].scratch)
                    worker.task = None
                return row
        ended = self._drop(worker)
        if worker.task is None:
            if not worker.is_ready:
                self._not_started(ended)
            return None
        place, attempts = worker.task
        if attempts < ATTEMPTS and not late:
            self._waiting.append((place, attempts + 1))
            return None
        forget(place.scratch)
        return self._pool.reason(place, attempts, ended, late=late)

    def _drop(self, worker: WorkerProcess) -> int | None:
        self._workers.remove(worker)
        return worker.end()

    def _not_started(self, ended: int | None) -> None:
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS and not self._workers:
            raise _no_workers(
                f"{self._failed_starts} in a row ended {_how(ended)} before they were ready"
            )


def _no_workers(seen: str) -> UsageError:
    return UsageError(
        "the workers of a scan do not start",
        seen=seen,
        hint='a program that scans does so under `if __name__ == "__main__":`, since each worker'
        " imports it; else they may lack memory, or files and processes that this user may have:"
        " see --memory and --workers",
    )


def _how(ended: int | None) -> str:
    """Return how a process ended, for people."""
    if ended is None:
        return "in a way that is not known"
    return f"by signal {-ended}" if ended < 0 else f"with {ended}"


def _processors() -> int:
    able = getattr(os, "sched_getaffinity", None)
    return len(able(0)) if able is not None else os.cpu_count() or 1
