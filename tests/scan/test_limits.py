"""A worker that hangs, dies or takes too much costs its core a row, and nobody else anything."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vringcore
from tests.cli.command import ROOT
from tests.scan import cores
from vringcore.scan.journal import read_rows
from vringcore.scan.place import Place, Settings
from vringcore.scan.pool import Pool
from vringcore.scan.process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.scan.scanner import Scan

KILLS = int(os.environ.get("VRINGCORE_KILLS", "3"))
"""How often the scan is killed and resumed; 50 for the record."""

KILLED = int(os.environ.get("VRINGCORE_KILLED", "80"))
"""Cores that are scanned while a worker is killed at every fourth."""


FLAT = """
import gc, sys, msgspec
from vringcore.scan.place import Place, Settings
from vringcore.scan.worker import COLLECT_EVERY, scan_place, start_worker
start_worker(0)
settings = msgspec.msgpack.encode(Settings(why=False, cache=False))
counts = []
for number in range(5 * COLLECT_EVERY):
    row = scan_place(Place(sys.argv[1]), settings)
    assert row.error is None, row.error
    if number % COLLECT_EVERY == COLLECT_EVERY - 1:
        counts.append(gc.get_freeze_count())
print(counts[1], counts[-1])
"""


def test_a_worker_keeps_nothing_of_a_core() -> None:
    """What is known of the build is kept; of a hundred cores of it not more than of thirty."""
    command = [sys.executable, "-c", FLAT, str(cores.dump("10.0/stuck"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.split())
    assert early > 1000
    assert late - early < 100


def test_a_core_that_takes_too_long(tmp_path: Path) -> None:
    """Its packed zeros take minutes to unpack; the core beside it has its row."""
    import zstandard

    directory = cores.copies(tmp_path / "cores", ["10.0/idle"])
    zeros = zstandard.ZstdCompressor(level=1).compress(bytes(64 << 20))
    (directory / "endless").write_bytes(cores.dump("10.0/stuck").read_bytes() + zeros * 4000)
    with vringcore.scan(str(directory), workers=1, cache=False, timeout=3) as found:
        rows = {Path(row.path).name: row for row in found}
    error = rows.pop("endless").error
    assert error is not None
    assert error.code == "timed-out"
    assert [row.error for row in rows.values()] == [None]


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts all memory on Linux alone")
def test_a_core_that_takes_too_much_memory(tmp_path: Path) -> None:
    import zstandard

    # Notes of 200 MiB: a core may have them, and they are read as a whole.
    whole = bytearray(cores.unpacked("10.0/stuck"))
    phoff, size, count = (
        int.from_bytes(whole[at : at + n], "little") for at, n in ((32, 8), (54, 2), (56, 2))
    )
    for at in range(phoff, phoff + size * count, size):
        if int.from_bytes(whole[at : at + 4], "little") == 4:
            whole[at + 8 : at + 16] = len(whole).to_bytes(8, "little")
            whole[at + 32 : at + 40] = (200 << 20).to_bytes(8, "little")
    whole += bytes(200 << 20)
    (tmp_path / "huge").write_bytes(zstandard.ZstdCompressor(level=1).compress(bytes(whole)))
    (tmp_path / "small").write_bytes(cores.dump("10.0/stuck").read_bytes())
    with vringcore.scan(str(tmp_path), workers=1, cache=False, memory=160 << 20) as found:
        rows = {Path(row.path).name: row for row in found}
    assert rows["small"].error is None
    error = rows["huge"].error
    assert error is not None
    assert error.code == "out-of-memory"


def workers_of(pid: int) -> list[int]:
    """Return the processes that a process has spawned, without those that have ended."""
    command = ["pgrep", "-P", str(pid), "-f", "spawn_main"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers by pgrep")
def test_a_worker_that_is_killed_loses_no_core(tmp_path: Path) -> None:
    directory = tmp_path / "cores"
    directory.mkdir()
    data = cores.dump("10.0/stuck-migration").read_bytes()
    for number in range(24):
        (directory / f"{number:02}").write_bytes(data)
    killed = []

    def kill(scan: Scan) -> None:
        if scan.done >= 4 and not killed:
            killed.append(workers_of(os.getpid())[0])
            os.kill(killed[0], signal.SIGKILL)

    with vringcore.scan(str(directory), workers=2, cache=False, why=False, progress=kill) as found:
        rows = list(found)
    assert killed
    assert sorted(Path(row.path).name for row in rows) == [f"{n:02}" for n in range(24)]
    assert all(row.error is None for row in rows)
    assert sum(row.cost.attempts for row in rows) <= 24 + 1


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers by pgrep")
def test_workers_that_are_killed_all_the_time(tmp_path: Path) -> None:
    """Wherever it is just then: starting, reading, writing its row, or with nothing to do."""
    directory = tmp_path / "cores"
    directory.mkdir()
    data = cores.dump("10.0/stuck-migration").read_bytes()
    names = [f"{number:03}" for number in range(KILLED)]
    for name in names:
        (directory / name).write_bytes(data)
    chance = random.Random(7)
    killed = []

    def kill(scan: Scan) -> None:
        if scan.done % 4 == 3:
            time.sleep(chance.uniform(0, 0.03))
            workers = workers_of(os.getpid())
            if workers:
                killed.append(chance.choice(workers))
                os.kill(killed[-1], signal.SIGKILL)

    with vringcore.scan(str(directory), workers=3, cache=False, why=False, progress=kill) as found:
        rows = list(found)
    assert len(killed) > len(names) // 8
    assert sorted(Path(row.path).name for row in rows) == sorted(names)
    lost = [row for row in rows if row.error is not None]
    assert {row.error.code for row in lost if row.error} <= {"worker-died"}
    # A core is lost if two were killed on it, and read at the second attempt if one was.
    again = [row for row in rows if row.cost.attempts == 2]
    assert len(again) + len(lost) <= len(killed)
    assert all(row in again for row in lost)
    assert workers_of(os.getpid()) == []


def test_a_worker_that_is_killed_while_it_has_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its row is not lost, and its end no core's fault: another reads the next, at once."""
    places = [Place(str(cores.dump(name))) for name in ("10.0/idle", "10.0/stuck", "7.2/stuck")]
    given: list[tuple[WorkerProcess, str]] = []
    give = WorkerProcess.give

    def remember(worker: WorkerProcess, place: Place, attempt: int) -> None:
        given.append((worker, place.path))
        give(worker, place, attempt)

    def killing() -> Iterator[Place]:
        yield from places[:2]
        # As many as are found ahead: the third is asked for when the first has been given.
        worker, _ = given[0]
        assert worker.connection.poll(60)
        worker.process.kill()
        worker.process.join()
        yield places[2]

    monkeypatch.setattr(WorkerProcess, "give", remember)
    rows = list(Pool(Settings(cache=False, why=False), workers=1).rows(killing()))
    assert [(row.error, row.cost.attempts) for row in rows] == [(None, 1)] * 3
    first, second, third = (place.path for place in places)
    assert [path for _, path in given] == [first, second, second, third]


UNGUARDED = """
import sys, vringcore
print([row.error for row in vringcore.scan(sys.argv[1], cache=False)])
"""


def test_a_program_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(UNGUARDED)
    command = [sys.executable, str(program), str(cores.dump("10.0/idle"))]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("vringcore.errors.UsageError: the workers of a scan do not start")
    assert '`if __name__ == "__main__":`' in last


def test_a_scan_that_is_killed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Every core has one row at last, however often the whole scan was killed before."""
    directory, out = tmp_path / "cores", tmp_path / "rows"
    directory.mkdir()
    data = cores.dump("10.0/idle").read_bytes()
    names = [f"{number:03}" for number in range(20 * KILLS)]
    for name in names:
        (directory / name).write_bytes(data)
    command = [sys.executable, "-m", "vringcore", "scan", str(directory), "-o", str(out)]
    command += ["--resume", "--workers", "2", "--no-why", "--no-cache"]
    for _ in range(KILLS):
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        before = out.stat().st_size if out.exists() else 0
        end = time.monotonic() + 60
        # At a moment of chance: as soon as some rows are there, wherever their writer is then.
        while run.poll() is None and time.monotonic() < end:
            if out.exists() and out.stat().st_size > before + 3000:
                break
            time.sleep(0.005)
        run.kill()
        run.communicate()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [Path(row.path).name for row in read_rows(str(out))]
    assert rows == names
    assert len(out.read_bytes().splitlines()) == len(names)
