"""`vringcore compare` over two captures, and two gcores, of one QEMU: at work, then stuck.

Truth are the indices that QEMU's monitor tells just before and just after each core is taken, and
the clock of whoever takes them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab import capture, qmp_facts
from tests.lab.guest import kernel
from tests.lab.runner import SYSTEM_EMULATOR, executable, running
from tests.lab.scenarios.parts import ready
from tests.lab.scenarios.stuck import STUCK
from tests.lab.session import Session
from vringcore.ring_math import distance

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = executable("7.2", SYSTEM_EMULATOR)
APART = 2.0
"""Seconds between two cores, beside what taking them needs."""

AT_WORK = replace(
    STUCK, summary="as stuck, while its server still works", incident=Session.ask, at_rest=False
)

if not PROGRAM.exists() or not kernel().exists():
    pytest.skip("no QEMU: run `python -m tests.lab make 7.2 stuck`", allow_module_level=True)


@dataclass(frozen=True)
class Taken:
    """A core, and what was known at its two sides: clock in seconds, queues by QMP."""

    path: Path
    clock: tuple[float, float]
    queues: tuple[list[dict[str, Any]], list[dict[str, Any]]]


@dataclass(frozen=True)
class Pairs:
    """By what was going on and who took them: two cores each; and one of the next process."""

    cores: dict[tuple[str, str], tuple[Taken, Taken]]
    restarted: Path


def vringcore(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vringcore", *map(str, words), "-e", str(PROGRAM)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def compared(pair: tuple[Taken, Taken]) -> tuple[int, dict[str, Any]]:
    done = vringcore("compare", *(each.path for each in pair), "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def taken(session: Session, target: Path, by: str) -> Taken:
    """Take a core, and ask QEMU before and after."""
    pid = session.machine.pid
    before = queues(session)
    began = time.monotonic()
    if by == "gcore":
        capture.gcore(pid, target)
    else:
        done = vringcore("capture", str(pid), "-o", target)
        assert done.returncode == 0, done.stderr
    ended = time.monotonic()
    return Taken(target, (began, ended), (before, queues(session)))


def queues(session: Session) -> list[dict[str, Any]]:
    (device,) = qmp_facts.virtio_devices(session.machine.monitor)
    return list(device["queues"])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    scratch, directory = tmp_path_factory.mktemp("vm"), tmp_path_factory.mktemp("cores")
    cores: dict[tuple[str, str], list[Taken]] = {}
    with running(AT_WORK, PROGRAM, scratch) as session:
        for going_on in ("work", "stuck"):
            if going_on == "stuck":
                session.stop_server(AT_WORK.devices[0])
            for turn in range(2):
                time.sleep(APART * turn)
                for by in ("capture", "gcore"):
                    target = directory / f"{going_on}-{by}-{turn}"
                    cores.setdefault((going_on, by), []).append(taken(session, target, by))
    restarted = directory / "restarted"
    scratch = tmp_path_factory.mktemp("again")
    with running(replace(AT_WORK, script=ready()), PROGRAM, scratch) as session:
        assert vringcore("capture", str(session.machine.pid), "-o", restarted).returncode == 0
    return Pairs({key: (pair[0], pair[1]) for key, pair in cores.items()}, restarted)


@pytest.mark.parametrize("by", ["capture", "gcore"])
def test_what_is_stuck_does_not_move(pairs: Pairs, by: str) -> None:
    pair = pairs.cores["stuck", by]
    exit_code, document = compared(pair)
    assert (exit_code, document["state"]) == (5, "stuck")
    assert document["first"]["verdict"] == "request-not-answered-by-nbd-server"
    for queue, *theirs in zip(
        document["queues"], pair[0].queues[0], pair[1].queues[1], strict=True
    ):
        moves = {move["name"]: move for move in queue["indices"]}
        assert {move["steps"] for move in moves.values()} == {0}
        for name, said in (("last_avail_idx", "last-avail-idx"), ("used_idx", "used-idx")):
            assert [moves[name]["first"], moves[name]["second"]] == [q[said] for q in theirs]
        assert (queue["state"], queue["gone"], queue["new"]) == ("stuck", 0, 0)
        assert len(queue["lasting"]) == theirs[0]["inuse"] == theirs[1]["inuse"] > 0


@pytest.mark.parametrize("by", ["capture", "gcore"])
def test_what_works_moves_as_far_as_qemu_says(pairs: Pairs, by: str) -> None:
    pair = pairs.cores["work", by]
    exit_code, document = compared(pair)
    assert (exit_code, document["state"]) == (0, "moving")
    assert document["summary"].startswith("Nothing is stuck: 4 queues of disk0 moved")
    (one, other) = (each.queues for each in pair)
    for index, queue in enumerate(document["queues"]):
        steps = {move["name"]: move["steps"] for move in queue["indices"]}
        for name, said in (("last_avail_idx", "last-avail-idx"), ("used_idx", "used-idx")):
            least = distance(other[0][index][said], one[1][index][said])
            most = distance(other[1][index][said], one[0][index][said])
            assert 0 < least <= steps[name] <= most
        assert queue["lasting"] == []


def test_captures_tell_the_time_between_them(pairs: Pairs) -> None:
    for going_on in ("work", "stuck"):
        first, second = pairs.cores[going_on, "capture"]
        _, document = compared((first, second))
        least, most = second.clock[0] - first.clock[1], second.clock[1] - first.clock[0]
        assert least <= document["elapsed_ns"] / 1e9 <= most
        assert document["elapsed_source"] == "clock"
    _, document = compared(pairs.cores["stuck", "gcore"])
    assert document["elapsed_ns"] is None


def test_what_an_operator_reads(pairs: Pairs) -> None:
    pair = pairs.cores["stuck", "capture"]
    done = vringcore("compare", *(each.path for each in pair))
    assert "Stuck: no index moved on 4 queues of disk0 in " in done.stdout
    assert "request-not-answered-by-nbd-server" in done.stdout


def test_another_process_and_another_order_are_refused(pairs: Pairs) -> None:
    first, second = (each.path for each in pairs.cores["stuck", "capture"])
    again = vringcore("compare", first, pairs.restarted)
    assert (again.returncode, again.stdout) == (2, "")
    assert "not of one process" in again.stderr
    assert "started again" in again.stderr
    turned = vringcore("compare", second, first)
    assert (turned.returncode, turned.stdout) == (2, "")
    assert "the second core is the older one" in turned.stderr
