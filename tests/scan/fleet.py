"""An archive of thousands of cores from the few dozen that there are.

Each copy of a dump is another state of its VM, as far as that can be made truthfully: the free-
running counters of every split ring (QEMU's and the guest's, with those of event suppression) go on
by the same whole number of rounds, so that ring slots, requests in flight and counts stay what they
were; its process lies at other addresses (`moved.py`); and a VM with a name or UUID has another.
What is not changed: pids and times. One in a hundred is damaged: cut, or some of its packed bytes
are wrong.

    python -m tests.scan.fleet 1000 fleet.tar
"""

from __future__ import annotations

import io
import os
import random
import sys
import tarfile
from pathlib import Path
from uuid import UUID

import msgspec
import zstandard

import vringcore
from tests.lab.cases import DUMPS
from tests.scan.moved import Movable
from vringcore.qemu.survey import Survey
from vringcore.ring_math import advance
from vringcore.virtio.features import RING_PACKED, has_feature

NAME = b"lab-vm"
"""What the lab calls a VM that has a name; the copies' names are as long."""

PAGE = 4096

DAMAGED = 100
"""One core in so many is damaged."""

OF_QEMU = ("last_avail_idx", "shadow_avail_idx", "used_idx", "signalled_used")


class Template(msgspec.Struct):
    """A dump to be multiplied, and where counters of rings lie: offset, ring size."""

    name: str
    core: Movable
    counters: list[tuple[int, int]]
    uuid: str | None = None

    def copy(self, number: int) -> bytes:
        """Return the core of another state; the same number gives the same bytes."""
        chance = random.Random(number)
        data = bytearray(self.core.moved(-PAGE * chance.randrange(1 << 22)))
        rounds = chance.randrange(1 << 16)
        for offset, size in self.counters:
            old = int.from_bytes(data[offset : offset + 2], "little")
            data[offset : offset + 2] = advance(old, rounds * size).to_bytes(2, "little")
        text = bytes(data).replace(NAME, b"v%05d" % number)
        if self.uuid is None:
            return text
        old, new = UUID(self.uuid), UUID(int=chance.getrandbits(128))
        text = text.replace(old.bytes, new.bytes)
        return text.replace(str(old).encode(), str(new).encode())


def template(path: Path) -> Template:
    """Return a dump ready to be multiplied."""
    data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    with vringcore.open_core(str(path), sysroot=os.devnull) as core:
        process = core.process
        members = [process.views.offset("struct VirtQueue", name) for name in OF_QEMU]
        counters = []
        for raw in Survey(process).devices.raw:
            features = raw.guest_features
            if not isinstance(features, int) or has_feature(features, RING_PACKED):
                continue
            for queue in raw.queues:
                place, size = queue.place, int(queue.view.num)
                if place.missing is not None or place.space is not None:
                    continue
                addresses = [int(queue.view.address_) + offset for offset in members]
                avail, used = int(place.avail), int(place.used)
                addresses += [avail + 2, avail + 4 + 2 * size, used + 2, used + 4 + 8 * size]
                offsets = map(process.core.memory.file_offset_of, addresses)
                counters += [(offset, size) for offset in offsets if offset is not None]
        uuid = core.qemu.vm_uuid
    return Template(
        path.parent.name, Movable(data), counters, uuid if isinstance(uuid, str) else None
    )


def write(path: Path, count: int) -> dict[str, int]:
    """Write a tar of so many cores, each packed by zstd; return how many are damaged."""
    found = sorted(DUMPS.glob("*/*/core.zst"))
    # RAM that no core has does not move, pointers to it do.
    templates = [template(each) for each in found if each.parent.name != "no-guest-ram"]
    packer = zstandard.ZstdCompressor(level=1)
    damaged = 0
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            data = packer.compress(templates[number % len(templates)].copy(number))
            if number % DAMAGED == DAMAGED - 1:
                damaged += 1
                data = _damage(data, number)
            info = tarfile.TarInfo(f"{number % 100:02}/core.{number:05}.zst")
            info.size = len(data)
            info.mtime = 1_790_000_000 + number
            archive.addfile(info, io.BytesIO(data))
    return {"cores": count, "damaged": damaged}


def _damage(data: bytes, number: int) -> bytes:
    chance = random.Random(number)
    if chance.random() < 0.5:
        return data[: chance.randrange(20, 2000)]
    start = chance.randrange(40, len(data) // 2)
    return data[:start] + bytes(64) + data[start + 64 :]


if __name__ == "__main__":
    print(write(Path(sys.argv[2]), int(sys.argv[1])))
