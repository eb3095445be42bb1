"""A case of a QEMU for an arm64 host: it runs under user emulation, where two cores are taken.

`core` is written by gdb's gcore over the emulator's gdb stub and has all that gdb knows of a
process. `raw.core`, later and of the same process, is what the emulator itself writes as a signal
ends the program: it names no files and lacks the text of each.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.lab import arm64, guest, qmp_facts, runner
from tests.lab.machine import Machine
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, nbd_node, ready, traffic
from tests.lab.session import Session

RAW = "raw.core"
_SIGNALS = 5

_DISK = Device(
    id="disk0",
    kind="virtio-blk",
    pci_address="00:05.0",
    serial="LABSERIAL0",
    iothread="io0",
    node="nbd0",
    queues=1,
    server="server0",
)


def _stop(session: Session) -> None:
    session.stop_server(_DISK)
    session.ask()


STUCK = Scenario(
    name="stuck",
    summary="an arm64 host: virtio-blk with an iothread; its NBD server has stopped",
    arguments=(
        *("-machine", "q35", "-m", "96", "-smp", "1"),
        *("-name", "lab-vm,debug-threads=on", "-uuid", "6c61622d-7672-696e-6763-6f7265303031"),
        *IOTHREAD,
        *nbd_node("nbd0", "server0"),
        "-device",
        "virtio-blk-pci,id=disk0,drive=nbd0,iothread=io0,num-queues=1,serial=LABSERIAL0,addr=05.0",
    ),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop,
)
SCENARIOS = {scenario.name: scenario for scenario in (STUCK,)}


def make(version: str, name: str) -> Path:
    """Makes a case anew and moves it to its place once it is complete; returns that place."""
    scenario = SCENARIOS[name]
    work = runner.empty_work(version, name)
    program = runner.executable(version, runner.SYSTEM_EMULATOR)
    guest.make(scenario.guest)
    with tempfile.TemporaryDirectory(prefix="vringcore-lab-") as scratch:
        _capture(scenario, program, Path(scratch), work)
    runner.write_truths(work, program)
    return runner.put_in_place(work, version, name)


@contextmanager
def _emulated(program: Path, scratch: Path) -> Iterator[tuple[Path, Path]]:
    """Yields a program that runs another one under emulation, and the emulator's gdb socket."""
    stub = scratch / "gdb"
    wrapper = scratch / "emulated"
    wrapper.write_text(
        "#!/bin/sh\n"
        f"exec {arm64.emulator()} -g {stub},suspend=n -L {arm64.sysroot()} {program} "
        '"$@"\n'
    )
    wrapper.chmod(0o755)
    yield wrapper, stub


def _capture(scenario: Scenario, program: Path, scratch: Path, case: Path) -> None:
    with (
        _emulated(program, scratch) as (wrapper, stub),
        runner.running(scenario, wrapper, scratch) as session,
    ):
        machine = session.machine
        command = [str(program), *machine.command[1:]]
        manifest = {
            "scenario": scenario.name,
            "summary": scenario.summary,
            "qemu_version": _version(program),
            "executable": str(program),
            "build_id": runner.build_id(program),
            "argv": command,
            "pid": machine.pid,
            "taken_at": time.time(),
            "taken_by": "gcore",
            "sysroot": str(arm64.sysroot()),
            "environment": scenario.environment,
            "monitor_answers_after": True,
            "kernel_core": "not taken: the host is another machine",
            "canaries": {},
            "expected": {
                "devices": [asdict(device) for device in scenario.devices],
                "in_flight": runner.in_flight(session.devices),
                "notes": {},
            },
        }
        manifest["gcore_seconds"] = round(_gcore(machine, stub, program, case / "core"), 2)
        _write(case / "qmp-before.json", session.facts)
        _write(case / "qmp-after.json", qmp_facts.ask(machine.monitor))
        _write(case / "server.json", [each.describe() for each in session.servers.values()])
        _raw_core(machine, scratch, case / RAW)
        _write(case / "manifest.json", manifest)
        (case / "console.log").write_text(machine.console())


def _gcore(machine: Machine, stub: Path, program: Path, target: Path) -> float:
    started = time.monotonic()
    # What the kernel would leave out, and gdb with it: pages of files that were not written to.
    Path(f"/proc/{machine.pid}/coredump_filter").write_text("0x37")
    commands = [f"target remote {stub}", f"gcore {target}.dense", "detach"]
    words = [word for each in commands for word in ("-ex", each)]
    ended = subprocess.run(
        [*arm64.debugger(program), "-batch", "-nx", str(program), *words],
        capture_output=True,
        text=True,
        timeout=600,
    )
    dense = Path(f"{target}.dense")
    if not dense.exists():
        raise RuntimeError(f"gdb took no core:\n{ended.stdout}\n{ended.stderr}")
    subprocess.run(["cp", "--sparse=always", str(dense), str(target)], check=True)
    dense.unlink()
    return time.monotonic() - started


def _raw_core(machine: Machine, scratch: Path, target: Path) -> None:
    """Ends the program by a signal and takes the core that the emulator writes of it."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(machine.pid, resource.RLIMIT_CORE, unlimited)
    for _ in range(_SIGNALS):
        # The emulator's gdb stub, which has had a debugger, may keep the first one for itself.
        os.kill(machine.pid, signal.SIGTRAP)
        with contextlib.suppress(subprocess.TimeoutExpired):
            machine.process.wait(timeout=60)
            break
    written = list(scratch.glob("qemu_*.core"))
    if len(written) != 1:
        raise RuntimeError(f"the emulator left {len(written)} cores in {scratch}, expected 1")
    subprocess.run(["cp", "--sparse=always", str(written[0]), str(target)], check=True)


def _version(program: Path) -> str:
    command = [str(arm64.emulator()), "-L", str(arm64.sysroot()), str(program), "--version"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return said.partition("version ")[2].split()[0]


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1))
