"""Requests of virtio-9p, held in worker threads: the files that it exports answer no more."""

from __future__ import annotations

import time

from tests.lab import proc
from tests.lab.guest import GENERIC
from tests.lab.machine import GuestError
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.aio import mount_fuse
from tests.lab.scenarios.parts import MEMORY_SERVER, Q35, ready
from tests.lab.session import Session

_SHARE = Device("share0", "virtio-9p", "00:05.0", queues=1)

_CALLS = {"295": "preadv", "296": "pwritev", "74": "fsync"}
"""What the files shall be asked for, by the numbers that x86-64 gives these calls."""

_REQUESTS = 5
"""One of each of the guest's processes."""

_ATTEMPTS = 12

# `sync` opens the file each time: nothing stays in the host's cache. The others seldom do, for who
# opens a file to write to it holds a lock of the directory, in the guest.
_SCRIPT = f"""
mkdir /share
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=65536 lab /share
for reader in 0 1 2; do
  while :; do
    dd if=/share/nbd of=/dev/null bs=16k skip=$((reader * 4000)) 2>/dev/null
  done &
done
while :; do dd if=/dev/zero of=/share/nbd bs=4k count=60000 conv=notrunc 2>/dev/null; done &
while :; do sync /share/nbd; done &
{ready(5)}"""


def _hold(session: Session) -> None:
    """Stops the server until each request in flight has a worker thread that hangs.

    And until `sync` hangs in its flush: it may as well hang as it opens the file.
    """
    server = session.servers["server0"]
    calls: list[str] = []
    for _ in range(_ATTEMPTS):
        server.stop()
        session.settle()
        calls = _held_calls(session.machine.pid)
        in_use = session.in_use(_SHARE.id)[0]
        if set(calls) == set(_CALLS.values()) and in_use == len(calls) == _REQUESTS:
            session.ask()
            return
        server.resume()
        time.sleep(1)
    raise GuestError(f"reads, a write and a flush were never held at once; at last {calls}")


def _held_calls(pid: int) -> list[str]:
    """The calls of those kinds in which threads sleep."""
    numbers = [thread["syscall"].partition(" ")[0] for thread in proc.facts(pid)["threads"]]
    return [_CALLS[number] for number in numbers if number in _CALLS]


STUCK_9P = Scenario(
    name="stuck-9p",
    summary="virtio-9p: reads, a write and a flush of a host's file that answers no more",
    arguments=(
        *Q35,
        *("-fsdev", "local,id=fs0,path={directory}/fuse,security_model=none"),
        *("-device", "virtio-9p-pci,id=share0,fsdev=fs0,mount_tag=lab,addr=5"),
    ),
    script=_SCRIPT,
    devices=(_SHARE,),
    servers=(MEMORY_SERVER,),
    prepare=mount_fuse,
    guest=GENERIC,
    incident=_hold,
    taken_by="proc",
    # 5.2 has no QMP for it: only gdb tells what is in flight, and waits for ever for such threads.
    versions=("7.2", "10.0", "10.2"),
)
