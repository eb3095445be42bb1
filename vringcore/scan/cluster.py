"""Workers of a cluster: dask.distributed runs what the processes of one machine do."""

from __future__ import annotations

import ctypes
import queue
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.errors import UsageError
from vringcore.scan.remote import missing
from vringcore.scan.rows import failed
from vringcore.scan.worker import scan_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.scan import ScanRow
    from vringcore.scan.place import Place, Settings

AHEAD = 4
"""Cores handed out for each thread of the cluster."""

RETRIES = 2


class Cluster:
    """A cluster whose workers read cores: they must see the same files or stores.

    Memory is limited by the cluster itself; a worker that ends is replaced, and its cores are read
    by another.
    """

    def __init__(self, settings: Settings, client: Any) -> None:
        """Use a cluster.

        :param client: a ``distributed.Client``, or the address of a scheduler
        :raises UsageError: if dask.distributed is not installed, or no scheduler answers there
        """
        try:
            from distributed import Client
        except ImportError as error:
            raise missing("dask.distributed", "cluster") from error
        self._own = isinstance(client, str)
        make: Any = Client
        try:
            self._client = make(client) if self._own else client
        except (ValueError, OSError) as error:  # OSError: its time-out, and all of the network's
            raise UsageError(
                "the scheduler of the cluster cannot be reached",
                where=client,
                seen=str(error),
                expected="an address such as tcp://scheduler:8786",
            ) from error
        self._timeout = settings.timeout
        self._encoded = msgspec.msgpack.encode(settings)

    @property
    def workers(self) -> int:
        """Threads of the cluster."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def rows(self, places: Iterator[Place]) -> Iterator[ScanRow]:
        """Yield rows as they are finished; ``places`` is asked as there is room."""
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        open_: dict[Any, Place] = {}
        more = True
        try:
            while more or open_:
                while more and len(open_) < self.workers * AHEAD:
                    place = next(places, None)
                    if place is None:
                        more = False
                    else:
                        future = self._submit(place)
                        open_[future] = place
                        future.add_done_callback(finished.put)
                if open_:
                    future = finished.get()
                    yield self._row(future, open_.pop(future))
        finally:
            self._client.cancel(list(open_))
            if self._own:
                self._client.close()

    def _submit(self, place: Place) -> Any:
        return self._client.submit(
            scan_in_time, place, self._encoded, self._timeout, pure=False, retries=RETRIES
        )

    def _row(self, future: Any, place: Place) -> ScanRow:
        error = future.exception()
        if error is None:
            row: ScanRow = future.result()
            return row
        return failed(
            place,
            "worker-died",
            f"no worker of the cluster came to an end with {place.name}: {error}",
            hint="it may have taken too much memory; the dashboard of the cluster tells",
        )


class OutOfTimeError(BaseException):
    """Raised in the thread that reads a core for too long; nothing on the way takes it."""


def scan_in_time(place: Place, settings: bytes, timeout: float) -> ScanRow:
    """Return the row of a core, from a thread of a worker that reads others besides."""
    thread = threading.get_ident()
    lock = threading.Lock()
    over = False

    def stop() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(OutOfTimeError)
                )

    timer = threading.Timer(timeout, stop)
    timer.daemon = True
    try:
        timer.start()
        row = scan_place(place, settings)
        with lock:
            over = True
    except OutOfTimeError:
        message = f"the core took longer than {timeout:g} s at {place.name}"
        row = failed(place, "timed-out", message, hint="allow more with --timeout")
    finally:
        timer.cancel()
    return row
