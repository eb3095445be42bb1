"""The processes of a scan: how they start, end, and are told apart when they do not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.command import ROOT

INTERRUPTED = """
import os, signal, msgspec
from vringcore.scan.place import Settings
from vringcore.scan.pool import _Worker
before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
settings = Settings(cache=False)
workers = [_Worker(msgspec.msgpack.encode(settings), settings) for _ in range(2)]
for worker in workers:
    os.kill(worker.process.pid, signal.SIGINT)
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
print([worker.connection.poll(60) and worker.connection.recv() for worker in workers])
"""


def run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there it cannot be held back")
def test_a_worker_that_starts_does_not_hear_an_interrupt() -> None:
    """Ctrl-C in a terminal is for all its processes; the first worker is started otherwise."""
    done = run(INTERRUPTED)
    assert (done.stdout, done.stderr) == ("[None, None]\n", "")
