"""Captures of QEMUs that hang, beside QMP, /proc, the disk server and a whole core of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.lab import proc, qmp_facts
from tests.lab.guest import kernel
from tests.lab.live import NOBODY, Live, live
from tests.lab.partial import plain
from tests.lab.runner import SYSTEM_EMULATOR, executable
from vringcore.layout.store import LayoutStore

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to play both users"),
]

ROOT = Path(__file__).resolve().parents[2]
HUNG = (
    ("7.2-stock", "stuck", None),
    ("7.2", "stuck", None),
    ("7.2", "stuck", NOBODY),
    ("7.2", "stuck-threads", None),
    ("7.2", "stuck-threads", NOBODY),
    ("10.0", "stuck-threads", None),
)
SECONDS = 5.0
"""Two are promised on a quiet machine; other tests and a guest at work run beside this one."""
FROM_PROC = ("name", "state", "file")
"""Of a worker thread: what a whole core cannot tell."""
CLOCK = "idle_time_ns"


def named(hung: tuple[str, str, int | None]) -> str:
    version, name, user = hung
    return f"{version}/{name}/{'root' if user is None else 'same-user'}"


@dataclass
class Captured:
    """A QEMU that hangs and still lives, what was captured of it, and the truth around that."""

    live: Live
    path: Path
    seconds: list[float]
    output: dict[str, Any]
    qmp_before: dict[str, Any]
    qmp_after: dict[str, Any]
    proc_before: dict[str, Any]
    proc_after: dict[str, Any]
    raw_before: Path
    raw_after: Path

    @cached_property
    def report(self) -> Any:
        """The whole report of the captured core, opened without any other file."""
        return report_of(self.path, sysroot=str(self.live.directory / "nothing"))

    @cached_property
    def truths(self) -> list[Any]:
        """The devices of the whole cores taken before and after."""
        return [
            report_of(path, executable=str(self.live.executable))["devices"]
            for path in (self.raw_before, self.raw_after)
        ]


def report_of(path: Path, **options: Any) -> Any:
    with vringcore.open_core(str(path), store=LayoutStore(), **options) as core:
        return plain(core.report())


def command(hung: Live, *words: str, cache: str = "cache") -> dict[str, Any]:
    """Return how `vringcore` is run by the user whom the QEMU belongs to."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment["XDG_CACHE_HOME"] = str(hung.directory / cache)
    environment["PYTHONPATH"] = sysconfig.get_path("purelib")
    # Another user cannot use this interpreter where it is installed in somebody's home.
    python = sys.executable if hung.user is None else "/usr/bin/python3"
    return {
        "args": [python, "-m", "vringcore", *words, "-e", str(hung.executable)],
        "cwd": ROOT,
        "env": environment,
        "user": hung.user,
        "group": hung.user,
        "extra_groups": None if hung.user is None else (),
    }


def capture(hung: Live, out: Path, *words: str, cache: str = "cache") -> dict[str, Any]:
    said = subprocess.run(
        **command(hung, "capture", str(hung.pid), "-o", str(out), "--json", *words, cache=cache),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, "")
    document: dict[str, Any] = json.loads(said.stdout)
    return document


def asked(hung: Live) -> dict[str, Any]:
    """Return what QEMU says of its state, the time since its last request left out."""
    names = ("query-status", "query-block", "query-named-block-nodes", "query-iothreads")
    facts = {name: hung.monitor.execute(name) for name in names}
    facts["query-blockstats"] = without_clock(hung.monitor.execute("query-blockstats"))
    facts["virtio"] = qmp_facts.virtio_devices(hung.monitor)
    return facts


def without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_clock(each) for key, each in value.items() if key != CLOCK}
    return [without_clock(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(scope="module", params=HUNG, ids=named)
def captured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Captured]:
    version, name, user = request.param
    if not executable(version, SYSTEM_EMULATOR).exists() or not kernel().exists():
        pytest.skip(f"no QEMU: run `python -m tests.lab make {version} all`")
    with live(version, name, user=user) as hung:
        if user is not None:
            tried = subprocess.run(
                **command(hung, "--version"), capture_output=True, text=True, check=False
            )
            if tried.returncode:
                pytest.skip(f"another user cannot run vringcore here: {tried.stderr[-300:]}")
        directory = tmp_path_factory.mktemp("raw")
        out = hung.directory / "captured.core"
        qmp_before, proc_before = asked(hung), hung.proc()
        hung.rawcore(directory / "before")
        seconds = []
        for turn in range(3):  # each with an empty cache; other programs may slow one of them
            began = time.monotonic()
            output = capture(hung, out, cache=f"cache{turn}")
            seconds.append(time.monotonic() - began)
        hung.rawcore(directory / "after")
        yield Captured(
            hung,
            out,
            seconds,
            output,
            qmp_before,
            asked(hung),
            proc_before,
            hung.proc(),
            directory / "before",
            directory / "after",
        )


def test_it_takes_seconds_at_most(captured: Captured) -> None:
    assert min(captured.seconds) < SECONDS
    assert captured.path.stat().st_size < 1_000_000
    assert captured.output["original_size"] > 256 << 20


def test_it_changes_nothing(captured: Captured) -> None:
    assert captured.qmp_after == captured.qmp_before
    assert captured.qmp_after["query-status"]["status"] == "running"
    states = {each["lwp"]: each["state"] for each in captured.proc_after["threads"]}
    assert "t" not in states.values()
    assert captured.proc_after["files"] == captured.proc_before["files"]
    assert (captured.live.user is None) == (captured.path.stat().st_uid == 0)


def test_its_queues_are_those_that_qemu_tells_of(captured: Captured) -> None:
    (device,) = captured.report["devices"]
    (said,) = captured.qmp_after["virtio"]
    assert [queue["fields"]["inuse"] for queue in device["queues"]] == [
        queue["inuse"] for queue in said["queues"]
    ]
    for queue, theirs in zip(device["queues"], said["queues"], strict=True):
        assert queue["fields"]["last_avail_idx"] == theirs["last-avail-idx"]
        assert queue["fields"]["used_idx"] == theirs["used-idx"]
        assert len(queue["in_flight"]) == theirs["inuse"] > 0
        assert queue["counts"]["unidentified"] == 0


def test_its_devices_and_requests_are_those_of_a_whole_core(captured: Captured) -> None:
    before, after = (lasting(each) for each in captured.truths)
    assert before == after  # nothing moves in a VM that hangs
    assert lasting(captured.report["devices"]) == before
    (device,) = before
    assert sum(len(queue["in_flight"]) for queue in device["queues"]) >= 4


def lasting(value: Any) -> Any:
    """Return a document without ages, which grow, and without what only /proc tells."""
    if isinstance(value, list):
        return [lasting(each) for each in value]
    if not isinstance(value, dict):
        return value
    left_out = {"age", *(FROM_PROC if "lwp" in value else ())}
    return {key: lasting(each) for key, each in value.items() if key not in left_out}


def test_its_requests_are_those_that_the_server_holds(captured: Captured) -> None:
    if captured.live.scenario.name != "stuck":
        pytest.skip("a FUSE process stands between")
    (device,) = captured.report["devices"]
    ours = [
        (each["request"]["operation"], each["request"]["sector"] * 512, each["request"]["length"])
        for queue in device["queues"]
        for each in queue["in_flight"]
    ]
    held = [
        (each["type"], each["offset"], each["length"])
        for server in captured.live.held()
        for each in server["held"]
    ]
    assert sorted(ours) == sorted(held)


def test_its_threads_are_what_proc_says(captured: Captured) -> None:
    later = {each["lwp"]: each for each in captured.proc_after["threads"]}
    still = [each for each in captured.proc_before["threads"] if later.get(each["lwp"]) == each]
    ours = {each["lwp"]: each for each in captured.report["threads"]}
    compared = set()
    for said in still:
        thread = ours[said["lwp"]]
        assert thread["name"] == said["comm"]
        if {thread["state"], said["state"]} == {"R", "S"}:
            continue  # it woke, or fell asleep, just then
        compared.add(said["lwp"])
        assert thread["state"] == said["state"]
        assert thread["system_call"]["number"] == int(said["syscall"].split()[0])
        if captured.live.user is None:
            frames = [line.partition("] ")[2] for line in said["stack"]]
            assert thread["kernel_stack"] == frames
        else:
            assert thread["kernel_stack"]["absent"] == "not-readable"
    asleep = {each["lwp"] for each in captured.proc_before["threads"] if each["state"] == "D"}
    assert compared
    assert asleep <= compared


def test_threads_that_cannot_be_stopped_serve_the_requests(captured: Captured) -> None:
    asleep = {each["lwp"]: each for each in captured.proc_before["threads"] if each["state"] == "D"}
    (device,) = captured.report["devices"]
    requests = [each for queue in device["queues"] for each in queue["in_flight"]]
    served = {
        waiting["thread"]["lwp"]: (each, waiting["thread"])
        for each in requests
        for waiting in each["waits_in"]
        if "thread" in waiting
    }
    assert served.keys() == asleep.keys()
    if captured.live.scenario.name == "stuck":
        assert not asleep
        return
    assert len(asleep) == len(requests) >= 4
    threads = {each["lwp"]: each for each in captured.report["threads"]}
    for lwp, (request, thread) in served.items():
        said = asleep[lwp]
        _, fd, _, _, offset, *_ = (int(word, 0) for word in said["syscall"].split())
        assert (thread["state"], thread["name"]) == ("D", said["comm"])
        assert thread["fd"] == fd
        assert thread["file"] == captured.proc_before["files"][str(fd)]
        assert threads[lwp]["system_call"]["file"] == thread["file"]
        if request["request"]["operation"] == "flush":
            assert (thread["call"], "offset" in thread) == ("fdatasync", False)
        else:
            assert thread["offset"] == offset == request["request"]["sector"] * 512
            assert threads[lwp]["system_call"]["arguments"]["offset"] == offset
        if captured.live.user is None:
            assert any("fuse" in frame for frame in threads[lwp]["kernel_stack"])


def test_nothing_of_the_guest_and_no_secret_is_in_it(captured: Captured) -> None:
    data = captured.path.read_bytes()
    packed = [unpacked(data, at) for at in places(data, b"\x78")]
    texts = [data, *packed, json.dumps(captured.report).encode()]
    whole = captured.raw_before.read_bytes()
    for canary in captured.live.scenario.canaries.values():
        assert canary.encode() in whole
        assert not any(canary.encode() in text for text in texts)
    assert any(len(each) > 10_000 for each in packed)  # the notes that hold layouts


def places(data: bytes, needle: bytes) -> Iterator[int]:
    at = data.find(needle)
    while at >= 0:
        yield at
        at = data.find(needle, at + 1)


def unpacked(data: bytes, at: int) -> bytes:
    """Return what begins at a place, if it is zlib's, else nothing."""
    try:
        return zlib.decompressobj().decompress(data[at:])
    except zlib.error:
        return b""


@pytest.mark.parametrize("words", [(), ("--stop", "1")], ids=["running", "stopped"])
def test_killed_it_leaves_no_half_file(captured: Captured, words: tuple[str, ...]) -> None:
    hung, out = captured.live, captured.live.directory / "killed.core"
    whole = min(captured.seconds)
    there = set()
    for turn in range(12):
        out.unlink(missing_ok=True)
        running = subprocess.Popen(
            **command(hung, "capture", str(hung.pid), "-o", str(out), *words),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(whole * (turn + 1) / 11)
        running.send_signal(signal.SIGKILL)
        running.wait()
        there.add(out.exists())
        if out.exists():
            assert lasting(report_of(out)["devices"]) == lasting(captured.report["devices"])
        assert not [each for each in hung.directory.iterdir() if "killed.core." in each.name]
    assert False in there
    wait_until(lambda: not proc.in_state(hung.pid, "t"))
    assert asked(hung) == captured.qmp_before


def test_stopped_for_a_moment_it_has_registers_and_everything_runs_on(captured: Captured) -> None:
    out = captured.live.directory / "stopped.core"
    capture(captured.live, out, "--stop", "1")
    states = {each["lwp"]: each["state"] for each in captured.live.proc()["threads"]}
    assert "t" not in states.values()
    assert asked(captured.live) == captured.qmp_before
    report = report_of(out, sysroot=str(captured.live.directory / "nothing"))
    assert lasting(report["devices"]) == lasting(captured.report["devices"])
    for thread in report["threads"]:
        if thread["state"] != "D":
            assert thread["frames_end"] == "outermost"


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
