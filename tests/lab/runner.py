"""Makes one case: starts servers and VM, brings about the incident, takes cores and truth."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.lab import capture, gdb_run, qmp_facts
from tests.lab.guest import READY
from tests.lab.machine import Machine
from tests.lab.nbd import NbdServer
from tests.lab.paths import cases_directory, qemu_directory, work_directory
from tests.lab.processes import Children, threads_of
from tests.lab.scenario import Scenario
from tests.lab.session import Session


def make_case(version: str, scenario: Scenario) -> Path:
    """Makes a case anew and moves it to its place once it is complete; returns that place."""
    target = cases_directory() / version / scenario.name
    work = work_directory() / f"{version}-{scenario.name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    executable = qemu_directory(version) / "qemu-system-x86_64"
    with tempfile.TemporaryDirectory(prefix="vringcore-lab-") as scratch:
        _capture(scenario, executable, Path(scratch), work)
    for core in sorted(work.glob("core*")):
        truth = core.name.replace("core", "gdb", 1) + ".json"
        gdb_run.write_truth(executable, core, work / truth)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    work.rename(target)
    return target


def _capture(scenario: Scenario, executable: Path, scratch: Path, case: Path) -> None:
    with Children() as children:
        servers = [NbdServer(plan, scratch, children) for plan in scenario.servers]
        machine = Machine(
            executable,
            _filled(scenario.arguments, servers, scratch),
            scenario.script,
            scratch,
            children,
            scenario.environment,
        )
        machine.wait_for(READY)
        session = Session(scenario, machine, servers)
        scenario.incident(session)
        manifest = _manifest(session, executable)
        manifest["gcore_seconds"] = round(capture.gcore(machine.pid, case / "core"), 2)
        _write(case / "qmp-before.json", session.facts)
        _write(case / "qmp-after.json", _facts_after(session))
        _write(case / "server.json", [server.describe() for server in servers])
        if scenario.kernel_core:
            manifest["kernel_core"] = _kernel_core(machine, scratch, case)
        _write(case / "manifest.json", manifest)
        (case / "console.log").write_text(machine.console())


def _filled(arguments: tuple[str, ...], servers: list[NbdServer], scratch: Path) -> list[str]:
    places = {f"{{{server.name}.nbd}}": str(server.socket_path) for server in servers}
    places["{directory}"] = str(scratch)
    filled = []
    for argument in arguments:
        for mark, value in places.items():
            argument = argument.replace(mark, value)
        filled.append(argument)
    return filled


def _manifest(session: Session, executable: Path) -> dict[str, Any]:
    machine, scenario = session.machine, session.scenario
    return {
        "scenario": scenario.name,
        "summary": scenario.summary,
        "qemu_version": _version(executable),
        "executable": str(executable),
        "build_id": build_id(executable),
        "argv": machine.command,
        "environment": scenario.environment,
        "pid": machine.pid,
        "lwp_count": threads_of(machine.pid),
        "taken_at": time.time(),
        "monitor_answers_after": scenario.monitor_answers_after,
        "expected": {
            "devices": [asdict(device) for device in scenario.devices],
            "in_flight": _in_flight(session.facts),
            "notes": session.notes,
        },
    }


def _in_flight(facts: dict[str, Any] | None) -> dict[str, dict[str, int]] | None:
    if facts is None:
        return None
    return {
        device["path"]: {str(queue["queue-index"]): queue["inuse"] for queue in device["queues"]}
        for device in facts["virtio"]
    }


def _facts_after(session: Session) -> dict[str, Any] | None:
    if not session.scenario.monitor_answers_after:
        return None
    return qmp_facts.ask(session.machine.monitor)


def _kernel_core(machine: Machine, scratch: Path, case: Path) -> str:
    refusal = capture.kernel_core_refusal()
    if refusal is not None:
        return f"not taken: {refusal}"
    capture.kernel_core(machine, scratch, case / "core.kernel")
    return "taken"


def _version(executable: Path) -> str:
    said = subprocess.run(
        [str(executable), "--version"], check=True, capture_output=True, text=True
    )
    found = re.search(r"version (\S+)", said.stdout)
    if found is None:
        raise RuntimeError(f"{executable} does not say its version: {said.stdout!r}")
    return found[1]


def build_id(executable: Path) -> str:
    """The GNU build-id as readelf prints it."""
    notes = subprocess.run(
        ["readelf", "-n", str(executable)], check=True, capture_output=True, text=True
    )
    found = re.search(r"Build ID: ([0-9a-f]+)", notes.stdout)
    if found is None:
        raise RuntimeError(f"{executable} has no build-id")
    return found[1]


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1))
