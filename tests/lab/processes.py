"""Child processes that cannot outlive the lab: killed as groups, stopped ones included."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Children:
    """Starts processes and, when left, kills every group that it started."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []
        self._afterwards: list[Sequence[str]] = []

    def start(
        self,
        command: Sequence[str],
        output: Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts `command` in a session of its own; both its outputs go to the file `output`.

        With `user` it runs as that user and group and has no other groups.
        """
        with output.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=_die_with_parent,
                user=user,
                group=user,
                extra_groups=None if user is None else (),
            )
        self._started.append(process)
        return process

    def on_exit(self, command: Sequence[str]) -> None:
        """Lets `command` clean up once all processes have been killed."""
        self._afterwards.append(command)

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # All are killed before any is waited for: one may sleep in the kernel until another is
        # gone. SIGKILL reaches stopped processes as well.
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for command in self._afterwards:
            subprocess.run(command, check=False, capture_output=True)
        for process in self._started:
            process.wait()


def threads_of(pid: int) -> int:
    """How many threads a process has now."""
    return len(os.listdir(f"/proc/{pid}/task"))


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
