"""A worker of this machine: a process that reads one core after the other, and its pipe."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

from vringcore.scan.worker import scan_place, start_worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from vringcore.model.scan import ScanRow
    from vringcore.scan.place import Place, Settings

MAX_TASKS = 2000
"""Cores of one worker: what it keeps of builds does not grow for ever."""

START_SECONDS = 120.0
"""A worker that is not ready by then is ended; it takes less than one."""

PIPE_SECONDS = 30
"""A worker that leaves part of a message lying for so long is stopped, and ended."""

_LEAST_MEMORY = 8 << 20
"""A worker that cannot have this much beside what it starts with can read no core."""

_END_SECONDS = 2.0
"""A worker that was told to end and has not by then is killed."""


class WorkerProcess:
    """A process, this end of its pipe, and the core that it reads.

    :ivar task: the core and which attempt this is, None if it has none
    :ivar is_ready: it has started, and can be given cores
    :ivar left: cores that it may still be given
    """

    def __init__(self, encoded: bytes, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection: Connection
        self.connection, other = context.Pipe()
        _bound(self.connection)
        # As a daemon it is ended with this process, whatever was left open.
        self.process = context.Process(
            target=_serve, args=(other, encoded, settings.memory), daemon=True
        )
        # The worker's copy alone is left, so that its end is the end of the pipe.
        with other, _interrupts_held():
            self.process.start()
        self.task: tuple[Place, int] | None = None
        self.is_ready = False
        self.left = MAX_TASKS
        self._timeout = settings.timeout
        self.due = time.monotonic() + START_SECONDS

    def give(self, place: Place, attempt: int) -> None:
        """Have a core read.

        :raises OSError: if the process ended while it had nothing to do
        """
        if self.connection.poll():  # it has nothing to say: this is its end
            raise BrokenPipeError
        self.task = place, attempt
        self.due = time.monotonic() + self._timeout
        self.left -= 1
        try:
            self.connection.send(self.task)
        except BlockingIOError:
            self.process.kill()  # it is stopped
        except OSError:
            return  # it ended as it took the core, and counts as one that ended on it

    def receive(self) -> ScanRow | None:
        """Return the row that came, None if the worker is ready.

        :raises EOFError: if it has ended, or is ending
        :raises OSError: likewise; or it was stopped, and is ended now
        """
        try:
            row: ScanRow | None = self.connection.recv()
        except BlockingIOError:
            self.leave()
            raise
        return row

    @property
    def is_waited_for(self) -> bool:
        """Whether it reads a core, or is not ready yet."""
        return self.task is not None or not self.is_ready

    @property
    def is_late(self) -> bool:
        """Whether it has taken too long, and said nothing that was not heard yet."""
        return self.is_waited_for and time.monotonic() >= self.due and not self.connection.poll()

    def leave(self) -> None:
        """Have the process end, at once if it reads a core."""
        self._close()
        if self.is_waited_for:
            self.process.kill()

    def end(self) -> int | None:
        """Wait for the process, which has nothing to do or is ending; return its exit code.

        One that does not end is killed, in vain where the kernel holds it: then it is left behind.
        """
        self._close()
        self.process.join(_END_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join(_END_SECONDS)
        return self.process.exitcode

    def _close(self) -> None:
        with suppress(OSError):  # whoever collects both as garbage may close it first
            self.connection.close()


def _bound(connection: Connection) -> None:
    """Let no read or write of part of a message wait for ever: a process may be stopped in it."""
    if sys.platform == "win32":
        return  # its pipes have no such option
    with socket.socket(fileno=os.dup(connection.fileno())) as pipe:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            pipe.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PIPE_SECONDS, 0))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait, and whatever process is started here never get it.

    A terminal sends it to the workers, too, and one that still imports would tell of it at length.
    """
    if not hasattr(signal, "pthread_sigmask"):  # not Unix
        yield
        return
    # The first process that multiprocessing starts brings one of its own, and lets signals in.
    resource_tracker.ensure_running()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _serve(connection: Connection, settings: bytes, memory: int) -> None:
    """Be a worker: say that it is ready, then a row for each core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that asks
    threading.Thread(target=_follow, daemon=True).start()
    start_worker(memory)
    try:
        bytearray(_LEAST_MEMORY)
        with suppress(EOFError, OSError):  # nobody asks any more
            connection.send(None)
            while True:
                place, attempt = connection.recv()
                connection.send(scan_place(place, settings, attempt))
    except MemoryError:  # not of a core, whose row would say so: there is nothing left at all
        os._exit(1)  # the interpreter would try to tell where, at length


def _follow() -> None:
    """End this process with the one that asks, however that ended, and whatever is done here."""
    asks = multiprocessing.parent_process()
    if asks is not None:
        with suppress(MemoryError):  # it has too little of it to start with
            asks.join()
        os._exit(1)
