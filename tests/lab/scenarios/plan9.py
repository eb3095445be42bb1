"""Requests of virtio-9p, held in worker threads: the files that it exports answer no more."""

from __future__ import annotations

from tests.lab import proc
from tests.lab.guest import GENERIC
from tests.lab.machine import GuestError
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.aio import mount_fuse
from tests.lab.scenarios.parts import MEMORY_SERVER, Q35, ready
from tests.lab.session import Session

_SHARE = Device("share0", "virtio-9p", "00:05.0", queues=1)

_READ, _WRITE = "295", "296"
_CALLS = (_READ, _WRITE, "74", "75", "257")
"""What files are asked for that a stopped server answers no more: preadv, pwritev, fsync,
fdatasync, openat, by the numbers that x86-64 gives these calls."""

_REQUESTS = 4
_ATTEMPTS = 6

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
    """Stops the server until each request in flight has a worker thread that hangs."""
    server = session.servers["server0"]
    calls: list[str] = []
    for _ in range(_ATTEMPTS):
        server.stop()
        session.settle()
        calls = _held_calls(session.machine.pid)
        enough = len(calls) >= _REQUESTS and {_READ, _WRITE} < set(calls)
        if enough and len(calls) == session.in_use(_SHARE.id)[0]:
            session.ask()
            return
        server.resume()
        session.settle()
    raise GuestError(f"of {_REQUESTS} requests, reads, writes and others, are held {calls}")


def _held_calls(pid: int) -> list[str]:
    """The numbers of the calls for files in which threads sleep."""
    threads = proc.facts(pid)["threads"]
    numbers = [thread["syscall"].partition(" ")[0] for thread in threads]
    return [number for number in numbers if number in _CALLS]


STUCK_9P = Scenario(
    name="stuck-9p",
    summary="virtio-9p: requests for files of a host directory that answers no more",
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
)
