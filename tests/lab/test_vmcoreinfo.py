"""The VMCOREINFO note by way of QEMU's device, beside QEMU's own dump of the same VM.

The guest has no driver that would tell the device, so its state is written into the running QEMU.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

import vringcore
from tests.lab import rawcore, runner, scenarios
from tests.lab.guest import kernel
from tests.lab.runner import SYSTEM_EMULATOR, executable
from vringcore.layout.store import LayoutStore
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu.guest import export_guest
from vringcore.qemu.guest_structs import VMCoreInfoState
from vringcore.qemu.guestmap import GuestMap
from vringcore.qemu.guestsearch import search
from vringcore.qemu.vmcoreinfo import find_vmcoreinfo, vmcoreinfo_of_device

pytestmark = pytest.mark.lab

PROGRAM = executable("7.2", SYSTEM_EMULATOR)

if not PROGRAM.exists() or not kernel().exists():
    pytest.skip("no QEMU: run `python -m tests.lab make 7.2 all`", allow_module_level=True)

EHSIZE = slice(52, 54)


def test_the_note_of_the_device_is_in_both_dumps(tmp_path: Path) -> None:
    paused = next(known for known in scenarios.ALL if known.name == "paused")
    scenario = replace(paused, arguments=(*paused.arguments, "-device", "vmcoreinfo"))
    core, dump, mine = tmp_path / "core", tmp_path / "dump", tmp_path / "mine"
    store = LayoutStore()
    with runner.running(scenario, PROGRAM, tmp_path, kernel=kernel()) as session:
        pid, monitor = session.machine.pid, session.machine.monitor
        rawcore.write(pid, core)
        with vringcore.open_core(str(core), executable=str(PROGRAM), store=store) as opened:
            process = opened.process
            silent = vmcoreinfo_of_device(process)
            assert isinstance(silent, Absent)
            assert silent.reason == "not-set-up"
            note = find_vmcoreinfo(process)
            assert isinstance(note, bytes)
            [hit] = search(process, GuestMap(process), note[:64]).hits
            state = next(process.objects.instances("vmcoreinfo"))
            views = process.views
            told = views.offset(VMCoreInfoState.c_type, "has_vmcoreinfo")
            place = views.at(VMCoreInfoState, state).vmcoreinfo
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(place)
            memory.write(struct.pack("<HHIQ", 0, 1, len(note), hit.address))
            memory.seek(state + told)
            memory.write(b"\1")
        monitor.execute("dump-guest-memory", 120, paging=False, protocol=f"file:{dump}")
        rawcore.write(pid, core)
    limits: list[Limitation] = []
    with (
        vringcore.open_core(str(core), executable=str(PROGRAM), store=store) as opened,
        mine.open("wb") as out,
    ):
        assert vmcoreinfo_of_device(opened.process) == note
        export = export_guest(opened.process, out, str(mine), limits=limits)
    assert export.vmcoreinfo == "device"
    ours, theirs = mine.read_bytes(), dump.read_bytes()
    assert note in theirs[: 1 << 16]
    same = (
        ours[: EHSIZE.start] + ours[EHSIZE.stop :] == theirs[: EHSIZE.start] + theirs[EHSIZE.stop :]
    )
    assert same
