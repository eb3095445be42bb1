"""The processes of a scan: how they start, end, and are told apart when they do not."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.command import ROOT, vringcore
from tests.scan import cores
from vringcore.scan.place import Place, Settings
from vringcore.scan.pool import Pool

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


class Ending:
    """Ends the process that takes it out of a pipe, in order: its exit code tells."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (7,)


def test_how_a_worker_ended_is_told_as_it_was() -> None:
    """It is not killed before it has ended by itself."""
    place = Place("core", data=Ending())  # type: ignore[arg-type]
    (row,) = Pool(Settings(cache=False), workers=1).rows(iter([place]))
    assert row.error is not None
    assert row.error.code == "worker-died"
    assert "the worker ended with 7 on the core, 2 times" in row.error.message


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts all memory on Linux alone")
@pytest.mark.parametrize("memory", ["1", "12M"])
def test_too_little_memory_to_start_with(memory: str) -> None:
    done = vringcore("scan", str(cores.dump("10.0/idle")), "--no-cache", "--memory", memory)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("vringcore: error: the workers of a scan do not start")
    assert "--memory" in said
