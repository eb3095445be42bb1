"""Threads that are stopped run again, whatever happens: by their states and their counters."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slim import target as targets
from tests.slim.target import (
    FORKER,
    MAIN,
    NOBODY,
    READER,
    RUNNER,
    Target,
    needs_root,
    needs_root_without_yama,
    reads_one_of_another,
    started,
    until,
)
from vringcore.addresses import HostAddress
from vringcore.elfcore.registers import NAMES
from vringcore.errors import ProcessAccessError, UsageError
from vringcore.slim.live import LiveProcess, open_live
from vringcore.slim.ptrace import PTRACE_SEIZE, Stopped, _ptrace

ROOT = Path(__file__).resolve().parent.parent.parent

READ_AND_WAIT = """
import sys, time
from vringcore.slim.live import open_live
live = open_live(int(sys.argv[1]), stop=float(sys.argv[2]))
print(len(live.stopped.registers), flush=True)
time.sleep(float(sys.argv[3]))
"""


def stopped_threads(live: LiveProcess) -> set[int]:
    assert live.stopped is not None
    return set(live.stopped.registers)


def is_held(live: LiveProcess) -> bool:
    return live.stopped is not None and live.stopped.held


def test_all_stand_still_and_run_again(program: Path, tmp_path: Path) -> None:
    with started(program, tmp_path, "run") as target:
        with open_live(target.pid, stop=20) as live:
            assert live.stopped is not None
            assert is_held(live)
            assert stopped_threads(live) == set(target.lwps)
            assert live.stopped.running == {}
            assert target.states() == ["t"] * len(target.lwps)
            before = target.number("ticks"), target.number("spins")
            time.sleep(0.1)
            assert (target.number("ticks"), target.number("spins")) == before
            assert live.moved((r.address, r.size) for r in live.memory.ranges()) == []
            # What /proc said before it was stopped, not that it is stopped now.
            states = {facts.lwp: facts.state for facts in live.slim.threads}  # type: ignore[union-attr]
            assert states[target.facts["tids"][RUNNER]] == "R"
            assert "t" not in states.values()
        assert not is_held(live)
        assert "t" not in target.states()
        assert target.runs()
        assert target.tracers() == {"0"}


def test_registers_are_those_of_the_thread(sleeping: Target) -> None:
    with open_live(sleeping.pid) as before, open_live(sleeping.pid, stop=20) as live:
        whole = {thread.lwp: thread for thread in live.threads}
        places = {thread.lwp: thread for thread in before.threads}
        names = NAMES[live.machine]
        assert all(tuple(t.registers) == names for t in live.threads)
        assert {facts.registers for facts in live.slim.threads} == {"all"}  # type: ignore[union-attr]
        reader = sleeping.facts["tids"][READER]
        assert places[reader].registers.items() <= whole[reader].registers.items()
        assert places[reader].fs_base is None
        # Each thread's own variable lies at one distance from its thread pointer.
        threads = [i for i, lwp in enumerate(sleeping.facts["tids"]) if lwp]
        distances = set()
        for index in threads:
            thread = whole[sleeping.facts["tids"][index]]
            assert thread.fs_base is not None
            distances.add(sleeping.facts["own"][index] - thread.fs_base)
        assert len(distances) == 1
        own = live.memory.read(HostAddress(sleeping.facts["own"][MAIN]), 8)
        assert int.from_bytes(own, "little") == 0x1111 * (MAIN + 2)


def test_the_time_limit_holds_while_the_reader_is_busy(sleeping: Target) -> None:
    with open_live(sleeping.pid, stop=0.3) as live:
        assert sleeping.states() == ["t"] * len(sleeping.lwps)
        began = time.monotonic()
        while time.monotonic() < began + 0.5:
            sum(range(1000))
        assert live.stopped is not None
        assert live.stopped.expired
        assert "t" not in sleeping.states()
        assert sleeping.runs()
        assert sleeping.tracers() == {"0"}
        # It goes on being readable.
        assert live.memory.find(sleeping.facts["known"], 3) == bytes([0, 1, 2])


def test_a_thread_in_an_uninterruptible_sleep_hinders_nothing(forking: Target) -> None:
    lwp = forking.facts["tids"][FORKER]
    assert forking.state(lwp) == "D"
    began = time.monotonic()
    with open_live(forking.pid, stop=1.0) as live:
        assert time.monotonic() - began < 0.5
        assert live.stopped is not None
        assert stopped_threads(live) == set(forking.lwps) - {lwp}
        assert list(live.stopped.running) == [lwp]
        assert "state D" in live.stopped.running[lwp]
        facts = {each.lwp: each for each in live.slim.threads}  # type: ignore[union-attr]
        assert (facts[lwp].state, facts[lwp].registers) == ("D", "sp-pc")
        thread = next(t for t in live.threads if t.lwp == lwp)
        assert len(thread.registers) == 2
        assert forking.state(lwp) == "D"
        assert forking.state() == "t"
    assert forking.runs()
    # The kernel lets go of the sleeping one when our thread has ended.
    assert until(lambda: forking.tracers() == {"0"})
    forking.end_child()
    assert until(lambda: forking.number("spins") > 3)


def test_one_that_wakes_up_while_the_others_are_stopped_runs_again(forking: Target) -> None:
    lwp = forking.facts["tids"][FORKER]
    with open_live(forking.pid, stop=20):
        forking.end_child()
        assert until(lambda: forking.state(lwp) == "t")
        time.sleep(0.05)
        assert forking.number("spins") == 0
    assert until(lambda: forking.number("spins") > 3)
    assert "t" not in forking.states()


@pytest.mark.parametrize("wakes", ["before", "after"])
def test_the_limit_holds_for_one_that_never_stopped(forking: Target, wakes: str) -> None:
    lwp = forking.facts["tids"][FORKER]
    with open_live(forking.pid, stop=0.3) as live:
        if wakes == "before":
            forking.end_child()
            assert until(lambda: forking.state(lwp) == "t")
        assert live.stopped is not None
        assert until(lambda: live.stopped is not None and live.stopped.expired, 2)
        assert until(lambda: forking.tracers() == {"0"})
        assert forking.runs()
        if wakes == "after":
            assert forking.state(lwp) == "D"
            forking.end_child()
        assert until(lambda: forking.number("spins") > 3)


@contextlib.contextmanager
def reader_of(target: Target, stop: float, wait: float) -> Iterator[subprocess.Popen[str]]:
    """Run another Python that stops the target and then waits."""
    command = [sys.executable, "-c", READ_AND_WAIT, str(target.pid), str(stop), str(wait)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        process_group=0,
    ) as reader:
        assert reader.stdout is not None
        try:
            assert int(reader.stdout.readline()) > 1
            assert target.state() == "t"
            yield reader
        finally:
            reader.kill()


@reads_one_of_another
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_reader_is_killed(forking: Target, number: signal.Signals) -> None:
    lwp = forking.facts["tids"][FORKER]
    with reader_of(forking, 600, 600) as reader:
        reader.send_signal(number)
        reader.wait(20)
        assert until(lambda: "t" not in forking.states())
        assert forking.runs()
        assert forking.tracers() == {"0"}
        assert forking.state(lwp) == "D"
        forking.end_child()
        assert until(lambda: forking.number("spins") > 3)


@reads_one_of_another
def test_the_reader_ends_without_closing(sleeping: Target) -> None:
    with reader_of(sleeping, 600, 0) as reader:
        reader.wait(20)
        assert reader.returncode == 0
        assert until(lambda: "t" not in sleeping.states())
        assert sleeping.runs()


@reads_one_of_another
def test_the_reader_is_not_suspended_by_its_terminal(sleeping: Target) -> None:
    with reader_of(sleeping, 1, 600) as reader:
        reader.send_signal(signal.SIGTSTP)
        assert until(lambda: sleeping.tracers() == {"0"}, 5)
        assert sleeping.runs()
        reader.send_signal(signal.SIGTSTP)
        stat = Path(f"/proc/{reader.pid}/stat")
        assert until(lambda: stat.read_text(errors="replace").rpartition(") ")[2][0] == "T")


def test_an_interrupt_in_the_middle_lets_all_run(
    sleeping: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        assert sleeping.state() == "t"
        raise KeyboardInterrupt

    monkeypatch.setattr("vringcore.slim.procfs.read_maps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_live(sleeping.pid, stop=20)
    assert "t" not in sleeping.states()
    assert sleeping.runs()
    assert sleeping.tracers() == {"0"}


@pytest.mark.parametrize("ends", ["as it should", "as if killed"])
def test_no_signal_is_lost(sleeping: Target, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """Signals come in all the time while the process is stopped and let go again and again."""
    if ends == "as if killed":
        monkeypatch.setattr(Stopped, "_let_go", lambda _: None)
    sent = 0
    ended = threading.Event()

    def all_taken() -> bool:
        return sleeping.number("signals") >= sent

    def send() -> None:
        nonlocal sent
        while not ended.is_set():
            os.kill(sleeping.pid, signal.SIGUSR1)
            sent += 1
            # The next is sent when this one was taken: equal pending signals are but one.
            until(all_taken)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(300):
            open_live(sleeping.pid, stop=5).close()
    finally:
        ended.set()
        sender.join()
    assert sent > 50
    assert sleeping.number("signals") == sent


def test_a_process_that_is_stopped_stays_so(sleeping: Target) -> None:
    os.kill(sleeping.pid, signal.SIGSTOP)
    assert until(lambda: sleeping.states() == ["T"] * len(sleeping.lwps))
    with open_live(sleeping.pid, stop=5) as live:
        assert stopped_threads(live) == set(sleeping.lwps)
    assert until(lambda: sleeping.states() == ["T"] * len(sleeping.lwps))
    os.kill(sleeping.pid, signal.SIGCONT)
    assert sleeping.runs()


def test_one_that_is_traced_already_is_refused(sleeping: Target) -> None:
    seized = threading.Event()
    ended = threading.Event()

    def trace() -> None:
        assert _ptrace(PTRACE_SEIZE, sleeping.pid) == 0
        seized.set()
        ended.wait()

    tracer = threading.Thread(target=trace)
    tracer.start()
    seized.wait(5)
    try:
        with pytest.raises(
            ProcessAccessError, match=f"not permit to stop.*{tracer.native_id} traces it"
        ):
            open_live(sleeping.pid, stop=5)
        with open_live(sleeping.pid) as live:
            assert live.memory.find(sleeping.facts["known"], 3) == bytes([0, 1, 2])
    finally:
        ended.set()
        tracer.join()
    assert sleeping.runs()


@needs_root
def test_another_users_process_is_not_stopped(sleeping: Target) -> None:
    def attempt() -> str:
        with pytest.raises(ProcessAccessError) as caught:
            open_live(sleeping.pid, stop=5)
        return str(caught.value)

    assert "run as root" in targets.as_user(NOBODY, attempt)
    assert sleeping.runs()


@needs_root_without_yama
def test_the_same_user_may_stop_it(program: Path, tmp_path: Path) -> None:
    with started(program, tmp_path, user=NOBODY) as target:

        def attempt() -> str:
            with open_live(target.pid, stop=5) as live:
                return repr(sorted(stopped_threads(live)))

        assert targets.as_user(NOBODY, attempt) == repr(sorted(target.lwps))
        assert target.runs()


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_is_a_time(sleeping: Target, seconds: float) -> None:
    with pytest.raises(UsageError, match="no time"):
        open_live(sleeping.pid, stop=seconds)
    assert sleeping.runs()


def test_nothing_is_stopped_unless_asked(sleeping: Target) -> None:
    before = voluntary_switches(sleeping)
    for _ in range(20):
        with open_live(sleeping.pid) as live:
            assert live.stopped is None
            live.resume()
            assert sleeping.tracers() == {"0"}
    # A thread that is stopped and goes on has been switched away from once more.
    assert voluntary_switches(sleeping) == before


def voluntary_switches(target: Target) -> int:
    lwp = target.facts["tids"][READER]
    text = Path(f"/proc/{target.pid}/task/{lwp}/status").read_text(errors="replace")
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
