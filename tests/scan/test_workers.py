"""The processes of a scan: how they start, end, and are told apart when they do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.command import ROOT, vringcore
from tests.scan import cores
from vringcore.scan import pool, process
from vringcore.scan.place import Place, Settings
from vringcore.scan.pool import FAILED_STARTS, Pool, _Run
from vringcore.scan.process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INTERRUPTED = """
import os, signal, msgspec
from vringcore.scan import pool, process
from vringcore.scan.place import Settings
from vringcore.scan.process import WorkerProcess
before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
settings = Settings(cache=False)
workers = [WorkerProcess(msgspec.msgpack.encode(settings), settings) for _ in range(2)]
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


class Acting:
    """Is code that runs in the process that takes it out of a pipe."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self._code,)


def acting(code: str) -> Place:
    return Place("core", data=Acting(code))  # type: ignore[arg-type]


def test_how_a_worker_ended_is_told_as_it_was() -> None:
    """It is not killed before it has ended by itself."""
    (row,) = Pool(Settings(cache=False), workers=1).rows(iter([acting("raise SystemExit(7)")]))
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


def test_a_core_that_a_worker_cannot_take_is_no_endless_work() -> None:
    """It ends in the middle of the message, whose sender sees that before it is all sent."""
    place = Place("core", data=bytes(64 << 20))
    (row,) = Pool(Settings(cache=False, memory=48 << 20), workers=1).rows(iter([place]))
    assert row.error is not None
    assert row.error.code == "worker-died"
    assert row.cost.attempts == 2


STOPPED = """
import os, signal, sys
frame = sys._getframe()
while "connection" not in frame.f_locals:
    frame = frame.f_back
os.write(frame.f_locals["connection"].fileno(), bytes([0, 0, 3, 0]) + b"a part")
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_a_worker_that_is_stopped_in_the_middle_of_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "PIPE_SECONDS", 1)
    (row,) = Pool(Settings(cache=False), workers=1).rows(iter([acting(STOPPED)]))
    assert row.error is not None
    assert row.error.code == "worker-died"


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_a_worker_that_is_stopped_before_it_takes_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a pipe holds cannot be given to it; another worker gets it."""
    data = cores.unpacked("10.0/idle")
    assert len(data) > 1 << 19
    workers: list[WorkerProcess] = []
    start = Pool.start

    def remember(self: Pool) -> WorkerProcess:
        workers.append(start(self))
        return workers[-1]

    def stopping() -> Iterator[Place]:
        yield Place("first", data=data)
        yield Place("second", data=data)
        # As many as are found ahead: the third is asked for when the first has been given.
        assert workers[0].connection.poll(60)
        os.kill(workers[0].process.pid or 0, signal.SIGSTOP)
        yield Place("third", data=data)

    monkeypatch.setattr(process, "PIPE_SECONDS", 1)
    monkeypatch.setattr(Pool, "start", remember)
    rows = list(Pool(Settings(cache=False, why=False), workers=1).rows(stopping()))
    assert [(row.path, row.error, row.cost.attempts) for row in rows] == [
        ("first", None, 1),
        ("third", None, 1),
        ("second", None, 2),
    ]
    assert len(workers) == 2


FEW_FILES = """
import resource, sys, vringcore
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
rows = list(vringcore.scan(*sys.argv[1:], workers=24, why=False, cache=False))
print(len(rows), {row.error for row in rows})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_fewer_workers_where_the_system_refuses_more(tmp_path: Path) -> None:
    data = cores.dump("10.0/idle").read_bytes()
    paths = [tmp_path / f"{number:02}" for number in range(24)]
    for path in paths:
        path.write_bytes(data)
    done = run(FEW_FILES, *map(str, paths))
    assert (done.stdout, done.stderr) == ("24 {None}\n", "")


WAITING = """
import os, sys, time
while not os.path.exists({path!r}):
    time.sleep(0.01)
"""


def test_workers_that_do_not_start_beside_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be at a long core meanwhile, and goes on alone."""
    flag = tmp_path / "three have ended"
    started: list[WorkerProcess] = []
    ended: list[int | None] = []
    start, not_started = Pool.start, _Run._not_started

    def start_one(self: Pool) -> WorkerProcess:
        started.append(start(self) if not started else WorkerProcess(b"", Settings(memory=1)))
        return started[-1]

    def count(self: _Run, code: int | None) -> None:
        ended.append(code)
        not_started(self, code)
        if len(ended) == FAILED_STARTS:
            flag.touch()

    def places() -> Iterator[Place]:
        yield acting(WAITING.format(path=str(flag)))
        assert started[0].connection.poll(60)
        for _ in range(3):
            yield Place(str(cores.dump("10.0/idle")))

    monkeypatch.setattr(Pool, "start", start_one)
    monkeypatch.setattr(_Run, "_not_started", count)
    rows = list(Pool(Settings(cache=False, why=False), workers=2).rows(places()))
    assert len(rows) == 4
    assert [row.error for row in rows[1:]] == [None] * 3
    assert ended[:FAILED_STARTS] == [1] * FAILED_STARTS


def test_time_for_which_all_were_stopped_is_no_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-Z and fg: nothing was heard, but the clock went on."""
    flag = tmp_path / "goes on"
    clock = SimpleNamespace(at=0.0, monotonic=lambda: clock.at)
    began: list[WorkerProcess] = []
    give, wait = WorkerProcess.give, pool.wait

    def remember(worker: WorkerProcess, place: Place, attempt: int) -> None:
        give(worker, place, attempt)
        began.append(worker)

    def stop(connections: Any, timeout: float) -> Any:
        if began and not clock.at:
            clock.at += 1000
            return []
        if began:
            flag.touch()
        return wait(connections, 60 if connections else 0)

    monkeypatch.setattr(pool, "time", clock)
    monkeypatch.setattr(process, "time", clock)
    monkeypatch.setattr(pool, "wait", stop)
    monkeypatch.setattr(WorkerProcess, "give", remember)
    place = acting(WAITING.format(path=str(flag)))
    (row,) = Pool(Settings(cache=False, timeout=100), workers=1).rows(iter([place]))
    assert row.error is not None
    assert row.error.code == "file"  # there is none of its name
    assert len(began) == 1


KILLED = """
import sys
from tests.scan.test_workers import acting
from vringcore.scan.place import Settings
from vringcore.scan.pool import Pool
next(Pool(Settings(cache=False), workers=1).rows(iter([acting(sys.argv[1])])))
"""

ENDLESS = """
import os, signal, time
os.kill(os.getppid(), signal.SIGKILL)
end = time.monotonic() + 90
while time.monotonic() < end:
    pass
print("alone")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_a_worker_ends_with_the_process_that_asks() -> None:
    """Also in the middle of a core: nobody is left who would end it for the time it takes."""
    done = run(KILLED, ENDLESS)  # which waits for all that can write to its output
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


def test_windows_waits_for_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert Pool(Settings(), workers=200).workers == pool.MOST_ON_WINDOWS < 64
