"""The processes of a scan: how they start, end, and are told apart when they do not."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import ROOT
from tests.scan import cores

if TYPE_CHECKING:
    from pathlib import Path

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


LEFT = """
import gc, multiprocessing, sys, vringcore
gc.disable()
options = {"out": sys.argv[1], "resume": True, "workers": 2, "why": False, "cache": False}
for again in range(3):
    for row in vringcore.scan(*sys.argv[2:], **options):
        break
    print(len(multiprocessing.active_children()), end=" ")
rows = list(vringcore.scan(*sys.argv[2:], **options))
list(vringcore.scan(*sys.argv[2:], **options))
print(len(rows))
"""


def test_who_stops_in_the_middle_leaves_nothing_open(tmp_path: Path) -> None:
    """Neither processes nor the file of rows, whose lock would keep the next scan out."""
    paths = [str(path) for path in sorted(cores.copies(tmp_path / "cores").glob("*.core"))]
    done = run(LEFT, str(tmp_path / "rows"), *paths)
    assert (done.stdout, done.stderr) == ("0 0 0 2\n", "")
