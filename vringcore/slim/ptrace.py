"""Stops the threads of a process for a moment, and sees to it that they run again (ptrace(2)).

A thread of our own does all of it, since the kernel obeys none but the one that attached. When that
thread ends, the kernel lets go of everything it holds, also of a thread in an uninterruptible
sleep, which cannot be let go of by name. So its end is the time limit: it waits for nothing else,
and it ends with the program, whatever ends that.

No signal is lost: a thread that stopped with one in its hand gets it back. ``PTRACE_O_EXITKILL`` is
not set, nor any other option.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
import time
from struct import Struct
from typing import TYPE_CHECKING

from vringcore.elfcore.headers import Note
from vringcore.elfcore.notes import NT_ARM_PAC_MASK, NT_ARM_TLS, NT_PRSTATUS, Thread
from vringcore.elfcore.registers import NAMES
from vringcore.errors import ProcessEndedError, ProcessError, UsageError, VringcoreError
from vringcore.slim import procfs
from vringcore.slim.access import access_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.slim.procfs import ProcessDirectory

# include/uapi/linux/ptrace.h, wait.h
PTRACE_DETACH = 17
PTRACE_GETREGSET = 0x4204
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_EVENT_STOP = 128
WALL = 0x40000000

_MAX_REGISTERS = 4096
_POLL = 0.0005
_PATIENCE = 0.02
"""Seconds that a thread in an uninterruptible sleep is given to come out of it."""

_MOST_OF_THE_TIME = 0.5
"""The share of the time limit after which stopping those that do not stop is given up."""

_ROUNDS = 8
"""How often new threads are looked for: one that is not stopped yet may start another."""

_TERMINAL_SIGNALS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def stop_threads(directory: ProcessDirectory, seconds: float, machine: str) -> Stopped:
    """Stop the threads of a process and read their registers.

    :param seconds: after so long they run again, whoever may still be reading
    :param machine: as :func:`~vringcore.elfcore.registers.machine_name` gives it
    :raises UsageError: if ``seconds`` is no time
    :raises ProcessAccessError: if the system does not permit it
    """
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise UsageError("the time for which to stop is no time", seen=f"{seconds} s")
    stopped = Stopped(directory, seconds, machine)
    stopped.start()
    return stopped


class Stopped:
    """Threads that are stopped, for a while.

    :ivar registers: those of each thread that stopped, by its number
    :ivar running: threads that did not stop, and why
    :ivar limit: seconds after which they run again
    :ivar expired: whether the limit let them run, before :meth:`resume` did
    """

    def __init__(self, directory: ProcessDirectory, limit: float, machine: str) -> None:
        self.limit = limit
        self.registers: dict[int, Thread] = {}
        self.running: dict[int, str] = {}
        self.expired = False
        self._directory = directory
        self._machine = machine
        self._ready = threading.Event()
        self._release = threading.Event()
        self._error: VringcoreError | None = None
        self._began = 0.0
        self._held: dict[int, int] = {}
        self._late: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="vringcore-ptrace", daemon=True)

    @property
    def held(self) -> bool:
        """Whether they are stopped now."""
        return self._thread.is_alive() and not self.expired and not self._release.is_set()

    def start(self) -> None:
        """Stop the threads; return when they stand still, or did not in half of the time."""
        try:
            self._thread.start()
            in_time = self._ready.wait(self.limit)
        except BaseException:
            self.resume()
            raise
        if not in_time:
            # The kernel itself waits: the process is just starting another program.
            self._release.set()
            self.running = dict.fromkeys(
                procfs.thread_numbers(self._directory), "the kernel did not answer in time"
            )
        elif self._error is not None:
            self._thread.join()
            raise self._error

    def resume(self) -> None:
        """Let the threads run again, at once. Nothing happens if they do already."""
        self._release.set()
        if self._thread.ident is None:
            return
        self._thread.join(self.limit)
        # For Python it has ended a moment before it has for the kernel.
        place, until = f"/proc/self/task/{self._thread.native_id}", time.monotonic() + _PATIENCE
        while os.access(place, os.F_OK) and time.monotonic() < until:
            time.sleep(_POLL)

    def _run(self) -> None:
        restore = list(_ignore_terminal())
        try:
            self._stop_all()
            self._ready.set()
            left = self._began + self.limit - time.monotonic()
            self.expired = not self._release.wait(max(0.0, left))
        except VringcoreError as error:
            self._error = error
        finally:
            self._let_go()
            self._ready.set()
            for number in restore:
                _LIBC.signal(number, None)

    def _stop_all(self) -> None:
        known: set[int] = set()
        self._began = time.monotonic()
        until = self._began + self.limit * _MOST_OF_THE_TIME
        for _ in range(_ROUNDS):
            # Attaching stops nothing yet, and may wait; interrupting does not.
            new = [lwp for lwp in self._new_threads(known) if self._seize(lwp)]
            if not new or self._release.is_set():
                break
            for lwp in new:
                _ptrace(PTRACE_INTERRUPT, lwp)
            self._late.update(new)
            self._wait(until)
        for lwp in self._held:
            thread = _registers(lwp, self._machine)
            if thread is not None:
                self.registers[lwp] = thread
        for lwp in self._late:
            self.running[lwp] = f"state {self._state_of(lwp) or 'unknown'}: it did not stop"

    def _new_threads(self, known: set[int]) -> list[int]:
        new = [n for n in procfs.thread_numbers(self._directory) if n not in known]
        known.update(new)
        return new

    def _seize(self, lwp: int) -> bool:
        code = _ptrace(PTRACE_SEIZE, lwp)
        if code in (0, errno.ESRCH):
            return code == 0
        error = OSError(code, os.strerror(code))
        # A thread that is just ending is refused, too; of a process, its main thread decides.
        if lwp == self._directory.pid:
            tracer = procfs.read_status(self._directory).tracer
            if self._directory.ended():
                raise ProcessEndedError("the process ended", where=self._directory.path)
            where = f"thread {lwp} of {self._directory.path}"
            raise access_error(lwp, where, error, doing="stop", tracer=tracer)
        if self._state_of(lwp):
            self.running[lwp] = f"it cannot be stopped: {error.strerror}"
        return False

    def _wait(self, until: float) -> None:
        """Wait until all have stopped, or those that have not are in an uninterruptible sleep."""
        patience = time.monotonic() + _PATIENCE
        while True:
            self._take_stops()
            now = time.monotonic()
            if not self._late or now > until or self._release.is_set():
                return
            if now > patience and all(self._state_of(lwp) in ("D", "") for lwp in self._late):
                return
            time.sleep(_POLL)

    def _take_stops(self) -> None:
        for lwp in list(self._late):
            # WNOWAIT: the kernel goes on knowing of the signal, and hands it on should we die.
            options = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL
            try:
                found = os.waitid(os.P_PID, lwp, options)
            except ChildProcessError:
                self._late.discard(lwp)
                continue
            if found is None:
                continue
            self._late.discard(lwp)
            if found.si_code == os.CLD_TRAPPED:
                event, number = found.si_status >> 8, found.si_status & 0x7F
                self._held[lwp] = 0 if event == PTRACE_EVENT_STOP else number

    def _let_go(self) -> None:
        """Detach from all that stopped; the end of this thread does it for those that did not."""
        self._take_stops()
        for lwp, number in self._held.items():
            _ptrace(PTRACE_DETACH, lwp, 0, number)

    def _state_of(self, lwp: int) -> str:
        """Return the letter of a thread's state, "" if it has ended."""
        try:
            state = procfs.state_of(self._directory.text(f"task/{lwp}/stat"))
        except ProcessError:
            return ""
        return "" if state in procfs.DEAD else state


class _Vector(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.restype = ctypes.c_long
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.signal.restype = ctypes.c_void_p
_LIBC.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)


def _ptrace(request: int, lwp: int, address: int = 0, data: int = 0) -> int:
    """Make the call; return 0, or the error's number."""
    ctypes.set_errno(0)
    if _LIBC.ptrace(request, lwp, address or None, data or None) == -1:
        return ctypes.get_errno()
    return 0


def _registers(lwp: int, machine: str) -> Thread | None:
    raw = _register_set(lwp, NT_PRSTATUS)
    if raw is None:
        return None
    names = NAMES.get(machine, ())
    words = Struct(f"={len(names)}Q")
    if len(raw) < words.size:
        return None
    registers = dict(zip(names, words.unpack_from(raw), strict=True))
    pointer, notes = registers.get("fs_base"), []
    if machine == "aarch64":
        for kind in (NT_ARM_TLS, NT_ARM_PAC_MASK):
            found = _register_set(lwp, kind)
            if found is not None and len(found) >= 8:
                notes.append(Note(b"LINUX", kind, 0, found))
                if kind == NT_ARM_TLS:
                    (pointer,) = Struct("=Q").unpack_from(found)
    return Thread(lwp, registers, raw, pointer, 0, 0, 0, notes)


def _register_set(lwp: int, kind: int) -> bytes | None:
    buffer = ctypes.create_string_buffer(_MAX_REGISTERS)
    vector = _Vector(ctypes.addressof(buffer), _MAX_REGISTERS)
    if _ptrace(PTRACE_GETREGSET, lwp, kind, ctypes.addressof(vector)):
        return None
    return buffer.raw[: vector.size]


def _ignore_terminal() -> Iterable[int]:
    """Ignore what would stop us and leave the process standing: Ctrl-Z, output to the terminal.

    Only where nobody handles them. Python's own ``signal`` works in the main thread alone.
    """
    for number in _TERMINAL_SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            _LIBC.signal(number, int(signal.SIG_IGN))
            yield number
