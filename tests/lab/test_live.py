"""Running QEMUs read without stopping them, beside what they say over QMP before and after."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.lab import proc, qmp_facts
from tests.lab.guest import kernel
from tests.lab.processes import Children
from tests.lab.qmp import Monitor
from tests.lab.qmp_compare import SCALARS_OF_A_DEVICE, SCALARS_OF_A_QUEUE
from tests.lab.runner import SYSTEM_EMULATOR, executable, running
from tests.lab.scenarios.aio import STUCK_THREADS
from vringcore.layout.store import LayoutStore
from vringcore.model.devices import Device
from vringcore.options import Options
from vringcore.qemu.files import ProgramFiles
from vringcore.qemu.process import Process
from vringcore.qemu.survey import Survey
from vringcore.slim.live import LiveProcess, open_live

pytestmark = pytest.mark.lab

PROGRAM = executable("7.2", SYSTEM_EMULATOR)

if not PROGRAM.exists() or not kernel().exists():
    pytest.skip("no QEMU: run `python -m tests.lab make 7.2 all`", allow_module_level=True)

PARTS = frozenset({"devices", "device-fields", "queues", "queue-fields", "requests"})

PAUSED = (
    *("-S", "-machine", "q35", "-accel", "tcg", "-nodefaults", "-display", "none", "-m", "64"),
    *("-L", "/usr/share/qemu", "-L", "/usr/share/seabios", "-object", "iothread,id=io0"),
    *("-blockdev", "driver=null-co,node-name=disk,size=1048576,read-zeroes=on"),
    *("-device", "virtio-blk-pci,id=disk0,drive=disk,num-queues=4,iothread=io0"),
    *("-device", "virtio-rng-pci,id=rng0", "-device", "virtio-balloon-pci,id=balloon0"),
)


class Running:
    """A QEMU that runs, and its monitor."""

    def __init__(self, pid: int, monitor: Monitor) -> None:
        self.pid = pid
        self.monitor = monitor

    def virtio(self) -> list[dict[str, Any]]:
        return qmp_facts.virtio_devices(self.monitor)

    def devices(self, *, stop: float | None = None) -> tuple[LiveProcess, dict[str, Device]]:
        """Return the process, closed, and its devices by QOM path."""
        with open_live(self.pid, stop=stop) as live:
            options = Options(executable=live.executable_file, sysroot=live.sysroot)
            files = ProgramFiles(live, options)
            try:
                process = Process(live, files, LayoutStore.default(), options)
                models = Survey(process).models(PARTS, [])
            finally:
                files.close()
        return live, {str(device.qom_path): device for device in models}


@pytest.fixture(scope="module")
def paused() -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as directory, Children() as children:
        socket = Path(directory) / "qmp"
        command = [str(PROGRAM), *PAUSED, "-qmp", f"unix:{socket},server=on,wait=off"]
        process = children.start(command, Path(directory) / "output")
        with closing(Monitor(socket)) as monitor:
            yield Running(process.pid, monitor)


@pytest.fixture(scope="module")
def stuck() -> Iterator[Running]:
    """Worker threads in an uninterruptible sleep: gdb would stop the others and wait for ever."""
    with (
        tempfile.TemporaryDirectory(prefix="vringcore-lab-") as directory,
        running(STUCK_THREADS, PROGRAM, Path(directory)) as session,
        closing(session.machine.monitor) as monitor,
    ):
        yield Running(session.machine.pid, monitor)


def compare(devices: dict[str, Device], virtio: list[dict[str, Any]]) -> int:
    """Compare with what QMP said; return how many facts were compared."""
    assert set(devices) == {said["path"] for said in virtio}
    count = 0
    for said in virtio:
        device = devices[said["path"]]
        assert isinstance(device.fields, dict)
        assert isinstance(device.queues, tuple)
        assert len(device.queues) == said["status"]["num-vqs"]
        pairs: list[tuple[dict[str, str], Any, dict[str, Any]]] = [
            (SCALARS_OF_A_DEVICE, device.fields, said["status"])
        ]
        for queue, told in zip(device.queues, said["queues"], strict=True):
            pairs.append((SCALARS_OF_A_QUEUE, queue.fields, told))
        for names, fields, told in pairs:
            for name in names.keys() & told.keys():
                value: Any = fields
                for member in names[name].split("."):
                    value = value[member]
                assert value == told[name], f"{device.id} {name}"
                count += 1
    return count


@pytest.mark.parametrize("stop", [None, 5.0])
def test_a_paused_qemu_is_what_it_says(paused: Running, stop: float | None) -> None:
    before = paused.virtio()
    live, devices = paused.devices(stop=stop)
    assert compare(devices, before) > 60
    assert paused.virtio() == before
    assert [device.kind for device in devices.values()].count("virtio-blk") == 1
    assert not live.ended


def test_a_qemu_that_gdb_cannot_take(stuck: Running) -> None:
    sleeping = proc.in_state(stuck.pid, "D")
    assert len(sleeping) >= 4
    before = stuck.virtio()
    began = time.monotonic()
    live, devices = stuck.devices()
    assert time.monotonic() - began < 10
    assert compare(devices, before) > 60
    assert stuck.virtio() == before
    in_use = [queue["inuse"] for device in before for queue in device["queues"]]
    queues: list[Any] = [q for device in devices.values() for q in device.queues]  # type: ignore[union-attr]
    assert [len(queue.in_flight) for queue in queues] == in_use
    assert all(in_use)
    assert live.slim is not None
    facts = {each.lwp: each for each in live.slim.threads if each.state == "D"}
    assert sorted(facts) == sleeping
    for each in facts.values():
        assert each.syscall is not None
        assert live.descriptors[str(each.syscall.arguments[0])].endswith("/fuse/nbd")
        assert isinstance(each.kernel_stack, tuple)
        assert any("fuse" in frame for frame in each.kernel_stack)


def test_the_others_are_stopped_and_run_again(stuck: Running) -> None:
    sleeping = proc.in_state(stuck.pid, "D")
    before = stuck.virtio()
    live, devices = stuck.devices(stop=10.0)
    assert compare(devices, before) > 60
    assert live.stopped is not None
    assert sorted(live.stopped.running) == sleeping
    assert {facts["lwp"] for facts in proc.facts(stuck.pid)["threads"]} == (
        set(live.stopped.running) | set(live.stopped.registers)
    )
    assert proc.in_state(stuck.pid, "t") == []
    assert stuck.virtio() == before
