"""Requests stuck in the host's kernel: a file on a FUSE file system whose server has stopped.

With aio=threads the workers sleep uninterruptibly; gdb waits for them for ever, so the core is
taken without stopping anything.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from tests.lab import proc
from tests.lab.machine import GuestError
from tests.lab.nbd import NbdServer
from tests.lab.processes import Children
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import (
    CANARY_PORT,
    IOTHREAD,
    MEMORY_SERVER,
    Q35,
    ready,
    spread_canary,
    traffic,
)
from tests.lab.scenarios.stuck import CANARIES, ENVIRONMENT, GUEST_CANARY, SECRET
from tests.lab.session import Session

_WORKERS = 4
"""Threads that must sleep uninterruptibly, at least."""

_FDATASYNC = "75 "
"""How /proc/PID/task/TID/syscall begins; the number is x86-64's."""


def mount_fuse(directory: Path, servers: list[NbdServer], children: Children) -> None:
    if not Path("/dev/fuse").exists():
        raise GuestError("no /dev/fuse here: FUSE is needed")
    point = directory / "fuse"
    point.mkdir()
    # QEMU may run as another user than the one that mounts.
    command = ["nbdfuse", "-o", "allow_other", str(point), "--unix", str(servers[0].socket_path)]
    children.start(command, directory / "nbdfuse.out")
    children.on_exit(["umount", "-l", str(point)])
    deadline = time.monotonic() + 20
    while not (point / "nbd").exists():
        if time.monotonic() > deadline:
            raise GuestError(f"nbdfuse: {(directory / 'nbdfuse.out').read_text()}")
        time.sleep(0.1)


def _freeze(session: Session) -> None:
    session.servers["server0"].stop()
    session.wait_until(
        lambda: all(session.in_use("disk0").values()),
        "every queue has a request in flight",
    )
    time.sleep(2)
    session.ask()


def _freeze_workers(session: Session) -> None:
    session.servers["server0"].stop()
    session.wait_until(
        lambda: _workers_asleep(session.machine.pid) and all(session.in_use("disk0").values()),
        f"{_WORKERS} worker threads sleep uninterruptibly and every queue has a request in flight",
    )
    time.sleep(2)
    session.ask()


def _workers_asleep(pid: int) -> bool:
    """Whether there are enough, one of them in a flush."""
    asleep = [proc.thread(pid, lwp) for lwp in proc.in_state(pid, "D")]
    flushes = [each for each in asleep if each["syscall"].startswith(_FDATASYNC)]
    return len(asleep) >= _WORKERS and bool(flushes)


def _arguments(engine: str) -> tuple[str, ...]:
    file_options = f"cache.direct=on,aio={engine}"
    device = "virtio-blk-pci,id=disk0,drive=raw0,iothread=io0,num-queues=4,addr=5"
    return (
        *Q35,
        *IOTHREAD,
        "-blockdev",
        f"driver=file,node-name=file0,filename={{directory}}/fuse/nbd,{file_options}",
        *("-blockdev", "driver=raw,node-name=raw0,file=file0,cache.direct=on"),
        *("-device", f"{device},serial=AIO{engine.upper()}"),
    )


def _freeze_and_migrate(session: Session) -> None:
    _freeze(session)
    session.migrate_until_hung()


def _freeze_workers_and_migrate(session: Session) -> None:
    _freeze_workers(session)
    session.migrate_until_hung()


def _disk(engine: str) -> Device:
    return Device("disk0", "virtio-blk", "00:05.0", f"AIO{engine.upper()}", "io0", "raw0", 4)


def _scenario(engine: str) -> Scenario:
    return Scenario(
        name=f"stuck-{engine.replace('_', '-')}",
        summary=f"aio={engine} on a host file whose I/O never ends",
        arguments=_arguments(engine),
        script=traffic("vda") + ready(5),
        devices=(_disk(engine),),
        servers=(MEMORY_SERVER,),
        prepare=mount_fuse,
        incident=_freeze,
    )


def _migration(engine: str) -> Scenario:
    return replace(
        _scenario(engine),
        name=f"{engine.replace('_', '-')}-migration",
        summary=f"aio={engine} on a host file whose I/O never ends; then a migration that hangs",
        incident=_freeze_and_migrate,
        monitor_answers_after=False,
    )


STUCK_NATIVE = _scenario("native")
STUCK_IO_URING = _scenario("io_uring")
STUCK_THREADS = Scenario(
    name="stuck-threads",
    summary="aio=threads on a host file whose I/O never ends: workers that nobody can stop",
    arguments=(
        *_arguments("threads"),
        *("-name", "lab-threads,debug-threads=on"),
        *("-object", f"secret,id=sec0,data={SECRET}"),
        *CANARY_PORT,
    ),
    script=spread_canary(GUEST_CANARY)
    + traffic("vda", "/canary")
    + "while :; do sync /dev/vda; done &\n"
    + ready(5),
    devices=(_disk("threads"),),
    servers=(MEMORY_SERVER,),
    prepare=mount_fuse,
    environment=ENVIRONMENT,
    incident=_freeze_workers,
    taken_by="proc",
    canaries=CANARIES,
)

NATIVE_MIGRATION = _migration("native")
IO_URING_MIGRATION = _migration("io_uring")
THREADS_MIGRATION = replace(
    STUCK_THREADS,
    name="threads-migration",
    summary="as stuck-threads; then a migration that hangs",
    arguments=_arguments("threads"),
    script=traffic("vda") + "while :; do sync /dev/vda; done &\n" + ready(5),
    environment={},
    incident=_freeze_workers_and_migrate,
    canaries={},
    monitor_answers_after=False,
)
