"""Makes one case: starts servers and VM, brings about the incident, takes cores and truth."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.lab import canaries, capture, gdb_run, guest, proc, qmp_facts, rawcore, stock
from tests.lab.backend import Backend, BackendPlan
from tests.lab.machine import Machine
from tests.lab.nbd import NbdServer
from tests.lab.paths import qemu_directory, work_directory
from tests.lab.processes import Children, threads_of
from tests.lab.scenario import Scenario
from tests.lab.session import Session

SYSTEM_EMULATOR = "qemu-system-x86_64"


def make_case(version: str, scenario: Scenario) -> Path:
    """Makes a case anew and moves it to its place once it is complete; returns that place."""
    work = empty_work(version, scenario.name)
    program = executable(version, SYSTEM_EMULATOR)
    guest.make(scenario.guest)
    with tempfile.TemporaryDirectory(prefix="vringcore-lab-") as scratch:
        _capture(scenario, program, Path(scratch), work)
    write_truths(work, program)
    if scenario.check is not None:
        scenario.check(_read(work / "gdb.json"), _read(work / "server.json"))
    if (work / "gdb.json").exists():
        _record_canaries(work, scenario)
    return put_in_place(work, version, scenario.name)


def write_truths(case: Path, program: Path) -> None:
    """Lets gdb read all cores of a case; it cannot where nothing describes a stripped program."""
    if program.parent.name.endswith(stock.MARK):
        described = stock.debug_file(program)
        if described is None:
            return
        program = described
    for core in sorted(case.glob("core*")):
        truth = core.name.replace("core", "gdb", 1) + ".json"
        gdb_run.write_truth(program, core, case / truth)


def _record_canaries(case: Path, scenario: Scenario) -> None:
    manifest = json.loads((case / "manifest.json").read_text())
    manifest["canaries"] = {name: {"text": text} for name, text in scenario.canaries.items()}
    for core in sorted(case.glob("core*")) if scenario.canaries else ():
        truth = json.loads((case / (core.name.replace("core", "gdb", 1) + ".json")).read_text())
        for name, found in canaries.count(core, scenario.canaries, truth["ram_blocks"]).items():
            if not any(found.values()):
                raise RuntimeError(f"{core.name} does not hold the canary {name}")
            manifest["canaries"][name][core.name] = found
    _write(case / "manifest.json", manifest)


def make_other_case(version: str, name: str, command: list[str], pid: int) -> Path:
    """Makes the case of a running program that is not a system emulator."""
    work = empty_work(version, name)
    facts = {
        "scenario": name,
        "summary": f"{Path(command[0]).name}: a program without virtio devices",
        **_program_facts(Path(command[0]), command, pid),
        "gcore_seconds": round(capture.gcore(pid, work / "core"), 2),
        "expected": {"devices": [], "in_flight": {}, "notes": {}},
    }
    _write(work / "manifest.json", facts)
    return put_in_place(work, version, name)


def executable(version: str, program: str) -> Path:
    """The path of a program built for the lab."""
    return qemu_directory(version) / program


def empty_work(version: str, name: str) -> Path:
    work = work_directory() / f"{version}-{name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


def put_in_place(work: Path, version: str, name: str) -> Path:
    target = stock.cases_of(version) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    old = work.with_name(work.name + ".old")
    if target.exists():
        target.rename(old)
    work.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


@contextmanager
def running(
    scenario: Scenario,
    program: Path,
    scratch: Path,
    *,
    kernel: Path | None = None,
    user: int | None = None,
) -> Iterator[Session]:
    """Brings a scenario about; all its processes are killed in the end, those that hang as well.

    :param kernel: the guest's kernel, if not the lab's own file
    :param user: the user (and group) that QEMU shall run as
    """
    with Children() as children:
        servers = [NbdServer(plan, scratch, children) for plan in scenario.servers]
        if scenario.prepare is not None:
            scenario.prepare(scratch, servers, children)
        places = _places(scenario, servers, scratch)
        backends = {
            plan.name: _backend(plan, program.parent, places, scratch, children)
            for plan in scenario.backends
        }
        machine = Machine(
            program,
            _filled(scenario.arguments, places),
            scenario.script,
            scratch,
            children,
            scenario.environment,
            kernel=kernel,
            user=user,
            suite=scenario.guest,
            kernel_arguments=scenario.kernel_arguments,
            programs=scenario.programs,
        )
        with closing(machine.monitor):
            machine.wait_for(guest.READY)
            session = Session(scenario, machine, servers, backends)
            scenario.incident(session)
            yield session


def _capture(scenario: Scenario, program: Path, scratch: Path, case: Path) -> None:
    with running(scenario, program, scratch) as session:
        machine = session.machine
        manifest = _manifest(session, program)
        if scenario.taken_by == "proc":
            _write(case / "proc.json", proc.facts(machine.pid))
            manifest["rawcore_seconds"] = round(rawcore.write(machine.pid, case / "core"), 2)
        else:
            manifest["gcore_seconds"] = round(capture.gcore(machine.pid, case / "core"), 2)
        _write(case / "qmp-before.json", session.facts)
        _write(case / "qmp-after.json", _facts_after(session))
        held = [server.describe() for server in session.servers.values()]
        _write(case / "server.json", held)
        if scenario.kernel_core:
            if scenario.kernel_filter is not None:
                filter_file = Path(f"/proc/{machine.pid}/coredump_filter")
                filter_file.write_text(hex(scenario.kernel_filter))
            manifest["kernel_core"] = _kernel_core(machine, scratch, case)
        _write(case / "manifest.json", manifest)
        (case / "console.log").write_text(machine.console())


def _places(scenario: Scenario, servers: list[NbdServer], scratch: Path) -> dict[str, str]:
    """What stands for the paths of this run in a scenario's arguments."""
    return {
        **{f"{{{server.name}.nbd}}": str(server.socket_path) for server in servers},
        **{
            f"{{{plan.name}.vhost}}": str(_vhost_socket(plan, scratch))
            for plan in scenario.backends
        },
        "{directory}": str(scratch),
    }


def _filled(arguments: tuple[str, ...], places: dict[str, str]) -> list[str]:
    filled = []
    for argument in arguments:
        for mark, value in places.items():
            argument = argument.replace(mark, value)
        filled.append(argument)
    return filled


def _vhost_socket(plan: BackendPlan, scratch: Path) -> Path:
    return scratch / f"{plan.name}.vhost"


def _backend(
    plan: BackendPlan, programs: Path, places: dict[str, str], scratch: Path, children: Children
) -> Backend:
    command = [str(programs / plan.command[0]), *_filled(plan.command[1:], places)]
    return Backend(command, _vhost_socket(plan, scratch), scratch / f"{plan.name}.out", children)


def _manifest(session: Session, program: Path) -> dict[str, Any]:
    machine, scenario = session.machine, session.scenario
    return {
        "scenario": scenario.name,
        "summary": scenario.summary,
        **_program_facts(program, machine.command, machine.pid),
        "environment": scenario.environment,
        "monitor_answers_after": scenario.monitor_answers_after,
        "taken_by": scenario.taken_by,
        "expected": {
            "devices": [asdict(device) for device in scenario.devices],
            "in_flight": in_flight(session.devices) if scenario.at_rest else {},
            "notes": session.notes,
        },
    }


def _program_facts(program: Path, command: list[str], pid: int) -> dict[str, Any]:
    return {
        "qemu_version": _version(program),
        "executable": str(program),
        "build_id": build_id(program),
        "argv": command,
        "pid": pid,
        "lwp_count": threads_of(pid),
        "taken_at": time.time(),
    }


def in_flight(devices: list[dict[str, Any]] | None) -> dict[str, dict[str, int]] | None:
    if devices is None:
        return None
    return {
        device["path"]: {
            str(queue["queue-index"]): queue["inuse"]
            for queue in device["queues"]
            if "inuse" in queue
        }
        for device in devices
    }


def _facts_after(session: Session) -> dict[str, Any] | None:
    if not (session.scenario.monitor_answers_after and session.scenario.at_rest):
        return None
    return qmp_facts.ask(session.machine.monitor)


def _kernel_core(machine: Machine, scratch: Path, case: Path) -> str:
    refusal = capture.kernel_core_refusal()
    if refusal is not None:
        return f"not taken: {refusal}"
    capture.kernel_core(machine, scratch, case / "core.kernel")
    return "taken"


def _version(program: Path) -> str:
    said = subprocess.run([str(program), "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"(?:version |qemu-nbd )(\d\S+)", said.stdout)
    if found is None:
        raise RuntimeError(f"{program} does not say its version: {said.stdout!r}")
    return found[1]


def build_id(program: Path) -> str:
    """The GNU build-id as readelf prints it."""
    notes = subprocess.run(
        ["readelf", "-n", str(program)], check=True, capture_output=True, text=True
    )
    found = re.search(r"Build ID: ([0-9a-f]+)", notes.stdout)
    if found is None:
        raise RuntimeError(f"{program} has no build-id")
    return found[1]


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1))


def _read(path: Path) -> Any:
    return json.loads(path.read_text())
