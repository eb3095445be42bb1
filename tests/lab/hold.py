"""Holds one thread of a running process at the entry of a function while the others go on.

It makes happen, every time, what a scheduler does to a thread only now and then. That thread alone
is traced, with a breakpoint in its debug registers, so that no code is changed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

# linux/ptrace.h, linux/wait.h; offsetof(struct user, u_debugreg) of x86-64.
_SEIZE, _INTERRUPT, _POKEUSER, _CONT, _DETACH = 0x4206, 0x4207, 6, 7, 17
_WALL = 0x40000000
_DEBUG_REGISTERS = 848
_ENABLE_FIRST = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class HeldThread:
    """A thread that stands at the entry of `function` until it is released."""

    def __init__(self, pid: int, thread: int, function: str, seconds: float = 30.0) -> None:
        self._thread = thread
        address = address_of(pid, function, "tT")
        _ptrace(_SEIZE, thread)
        _ptrace(_INTERRUPT, thread)
        os.waitpid(thread, _WALL)
        self._set_breakpoint(address)
        _ptrace(_CONT, thread)
        self._wait_for_breakpoint(function, seconds)

    def release(self) -> None:
        """Lets the thread go on, no longer traced."""
        self._set_breakpoint(None)
        _ptrace(_DETACH, self._thread)

    def _set_breakpoint(self, address: int | None) -> None:
        # Debug register 7 enables, register 0 is the address.
        _ptrace(_POKEUSER, self._thread, _DEBUG_REGISTERS + 7 * 8, 0)
        if address is not None:
            _ptrace(_POKEUSER, self._thread, _DEBUG_REGISTERS, address)
            _ptrace(_POKEUSER, self._thread, _DEBUG_REGISTERS + 7 * 8, _ENABLE_FIRST)

    def _wait_for_breakpoint(self, function: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            stopped, status = os.waitpid(self._thread, _WALL | os.WNOHANG)
            if stopped and os.WSTOPSIG(status) == signal.SIGTRAP:
                return
            if stopped:
                _ptrace(_CONT, self._thread, 0, os.WSTOPSIG(status))
            if time.monotonic() > deadline:
                raise TimeoutError(f"thread {self._thread} did not call {function}")
            time.sleep(0.01)


def thread_named(pid: int, name: str) -> int:
    """The thread of a process with this name."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise RuntimeError(f"process {pid} has no thread named {name}")


def address_of(pid: int, name: str, kinds: str) -> int:
    """The address of a symbol of a running program; `kinds` are the letters that nm gives it."""
    executable = os.readlink(f"/proc/{pid}/exe")
    listed = subprocess.run(["nm", executable], check=True, capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        words = line.split()
        if words[-1] == name and words[-2] in kinds:
            return _load_address(pid, executable) + int(words[0], 16)
    raise RuntimeError(f"{executable} has no symbol {name}")


def _load_address(pid: int, executable: str) -> int:
    mapped = Path(f"/proc/{pid}/maps").read_text().splitlines()
    first = next(line for line in mapped if line.endswith(executable))
    return int(first.partition("-")[0], 16)


def _ptrace(request: int, thread: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, thread, address, data) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace request {request:#x}")
