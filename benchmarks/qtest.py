"""Drives a paused QEMU's virtio-blk disks as a guest's driver would, over QEMU's qtest protocol.

No guest runs: registers and guest memory are written from outside, one command a line. Each queue
gets a ring and one to seven reads that its null-co disk never completes, so every VirtQueue has
numbers and addresses of its own. Constants are those of the VirtIO specification 1.2 (4.1.4
"Virtio Structure PCI Capabilities", 2.7 "Split Virtqueues") and of QEMU's virtio-pci, which puts
its registers into BAR 4.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subprocess import Popen

_CONFIG_ADDRESS, _CONFIG_DATA = 0xCF8, 0xCFC
_COMMAND, _BAR4, _BAR5 = 0x04, 0x20, 0x24
_MEMORY_AND_MASTER = 6

_BARS_AT, _BAR_STEP = 0xE0000000, 0x10000
"""In q35's hole below 4 GiB."""

_FEATURE_SELECT, _FEATURES = 0x08, 0x0C
_STATUS = 0x14
_QUEUE_SELECT, _QUEUE_ENABLE, _QUEUE_DESC = 0x16, 0x1C, 0x20
_NOTIFY_AT, _NOTIFY_STEP = 0x3000, 4

_ACKNOWLEDGE, _DRIVER, _DRIVER_OK, _FEATURES_OK = 1, 2, 4, 8
_EVENT_IDX, _VERSION_1 = 1 << 29, 1 << 32

_RINGS_AT, _RING_STEP = 0x100000, 0x4000
_AVAIL, _USED, _REQUEST = 0x1000, 0x2000, 0x3000
_STATUS_BYTES, _DATA = 0x100, 0x200
_MOST_READS = 7
_NEXT, _WRITE = 1, 2

RING_BYTES = _RING_STEP
"""Guest memory that one queue takes, from 1 MiB on."""


class Qtest:
    """A qtest session on QEMU's standard input and output."""

    def __init__(self, process: Popen[str]) -> None:
        self._process = process

    def start_disk(self, slot: int, number: int, first: int, queues: int) -> None:
        """Bring up a disk and leave reads in each queue.

        :param slot: of the PCI root bus
        :param number: of this disk, from 0
        :param first: how many queues all disks before it have
        """
        bar = _BARS_AT + number * _BAR_STEP
        for register, value in ((_BAR4, bar), (_BAR5, 0), (_COMMAND, _MEMORY_AND_MASTER)):
            self._ask(f"outl {_CONFIG_ADDRESS:#x} {1 << 31 | slot << 11 | register:#x}")
            self._ask(f"outl {_CONFIG_DATA:#x} {value:#x}")
        status = _ACKNOWLEDGE | _DRIVER
        self._ask(f"writeb {bar + _STATUS:#x} {status:#x}")
        for half in (0, 1):
            self._ask(f"writel {bar + _FEATURE_SELECT:#x} {half:#x}")
            word = (_EVENT_IDX | _VERSION_1) >> 32 * half & 0xFFFFFFFF
            self._ask(f"writel {bar + _FEATURES:#x} {word:#x}")
        status |= _FEATURES_OK
        self._ask(f"writeb {bar + _STATUS:#x} {status:#x}")
        for queue in range(queues):
            ring = _RINGS_AT + (first + queue) * _RING_STEP
            self._fill(ring, number=first + queue)
            self._ask(f"writew {bar + _QUEUE_SELECT:#x} {queue:#x}")
            for index, address in enumerate((ring, ring + _AVAIL, ring + _USED)):
                self._ask(f"writel {bar + _QUEUE_DESC + 8 * index:#x} {address:#x}")
                self._ask(f"writel {bar + _QUEUE_DESC + 8 * index + 4:#x} 0x0")
            self._ask(f"writew {bar + _QUEUE_ENABLE:#x} 0x1")
        self._ask(f"writeb {bar + _STATUS:#x} {status | _DRIVER_OK:#x}")
        for queue in range(queues):
            self._ask(f"writew {bar + _NOTIFY_AT + queue * _NOTIFY_STEP:#x} {queue:#x}")

    def _fill(self, ring: int, *, number: int) -> None:
        """Write some chains of header, data and status, and publish them."""
        count = 1 + number % _MOST_READS
        request = ring + _REQUEST
        for read in range(count):
            header, status = request + 16 * read, request + _STATUS_BYTES + read
            first = 3 * read
            table = struct.pack(
                "<QIHHQIHHQIHH",
                *(header, 16, _NEXT, first + 1),
                *(request + _DATA, 512, _NEXT | _WRITE, first + 2),
                *(status, 1, _WRITE, 0),
            )
            self._write(ring + 16 * first, table)
            # Apart, or QEMU would merge them into one.
            self._write(header, struct.pack("<IIQ", 0, 0, 16 * (_MOST_READS * number + read)))
            self._write(ring + _AVAIL + 4 + 2 * read, struct.pack("<H", first))
        self._write(ring + _AVAIL, struct.pack("<HH", 0, count))

    def _write(self, address: int, data: bytes) -> None:
        self._ask(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def _ask(self, command: str) -> None:
        """Send one command and wait for its answer.

        :raises RuntimeError: if QEMU ends or refuses it
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(command + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer.startswith("OK"):
            raise RuntimeError(f"qtest: {command}: {answer!r}")
