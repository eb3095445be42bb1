"""Pieces that several scenarios are put together from."""

from __future__ import annotations

from tests.lab.guest import READY
from tests.lab.nbd import ServerPlan

MEMORY_SERVER = ServerPlan("server0", ("memory", "256M"))
"""A disk in nbdkit's memory; its requests are held by stopping it."""

IOTHREAD = ("-object", "iothread,id=io0")

Q35 = ("-machine", "q35", "-m", "256")


def nbd_node(node: str, server: str, options: str = "") -> tuple[str, str]:
    """A block node on an NBD server of the scenario."""
    path = f"server.type=unix,server.path={{{server}.nbd}}"
    return "-blockdev", f"driver=nbd,node-name={node},{path}{options}"


CANARY_PORT = (
    *("-chardev", "ringbuf,id=ring0,size=4096"),
    *("-device", "isa-serial,chardev=ring0"),
)
"""A serial port whose output QEMU keeps in a buffer of its own."""


def spread_canary(canary: str) -> str:
    """Lets the guest fill the file /canary, in its memory, with a text of 16 bytes.

    Through the port of CANARY_PORT it gets into QEMU's own memory, too.
    """
    return f"""
yes {canary} | tr -d '\\n' | head -c 819200 > /canary
head -c 160 /canary > /dev/ttyS1
"""


def traffic(disk: str, written: str = "/dev/zero") -> str:
    """Per vCPU one reader and one writer that never end, so that four queues are in use.

    :param written: what is written: a file of at least 800 KiB
    """
    read = f"dd if=/dev/{disk} of=/dev/null bs=16k skip=$((cpu * 1000)) count=200 iflag=direct"
    write = f"dd if={written} of=/dev/{disk} bs=4k seek=$((cpu * 4000 + 20000)) count=200"
    return f"""
for cpu in 0 1 2 3; do
  taskset -c $cpu sh -c "while :; do {read} 2>/dev/null; done" &
  taskset -c $cpu sh -c "while :; do {write} oflag=direct 2>/dev/null; done" &
done
"""


def ready(seconds: int = 0) -> str:
    """Tells the driver that the guest's work has begun (after some seconds of it)."""
    return f'sleep {seconds}\necho "{READY}"\n'
