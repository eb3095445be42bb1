"""What opening costs must not grow with the size of the core."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from tests.synth.core import CoreBuilder
from vringcore.addresses import HostAddress
from vringcore.elfcore.core import open_elf_core

RAM = 0x7000_0000_0000
GIB = 1 << 30


def sparse_core(path: Path, gib: int) -> str:
    builder = CoreBuilder()
    for lwp in range(1, 21):
        builder.thread(lwp)
        builder.note(b"LINUX", 0x202, bytes(2696))
    builder.files(
        [(0x10000 * i, 0x10000 * i + 0x8000, 0, f"/lib/lib{i}.so".encode()) for i in range(1, 61)]
    )
    for index in range(1, 300):
        builder.segment(0x10000 * index, b"\x7fELF", memory_size=0x8000)
    builder.segment(RAM, b"first", file_size=gib * GIB)
    builder.segment(RAM + gib * GIB, b"behind")
    builder.write(path)
    return str(path)


def cost(path: str, gib: int) -> tuple[float, int]:
    """Return the least seconds to open and read, and the peak bytes allocated."""
    times = []
    for _ in range(15):
        start = time.perf_counter()
        with open_elf_core(path) as core:
            assert core.memory.read(HostAddress(RAM), 5) == b"first"
            assert core.memory.read(HostAddress(RAM + gib * GIB - 8), 14) == bytes(8) + b"behind"
            assert len(core.threads) == 20
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    with open_elf_core(path) as core:
        core.memory.read(HostAddress(RAM + gib * GIB // 2), 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return min(times), peak


def test_64_gib_open_as_fast_and_as_small_as_1_gib(tmp_path: Path) -> None:
    small_time, small_peak = cost(sparse_core(tmp_path / "small", 1), 1)
    large_time, large_peak = cost(sparse_core(tmp_path / "large", 64), 64)
    assert large_peak < small_peak + 64 * 1024
    assert large_peak < 4 << 20
    assert large_time < 2 * small_time + 0.001
    # The budget is about a millisecond; ten leave room for a busy machine.
    assert large_time < 0.010


@pytest.mark.parametrize("overlapping", [False, True])
def test_70000_segments(tmp_path: Path, overlapping: bool) -> None:
    builder = CoreBuilder()
    builder.thread(1)
    size = 0x1800 if overlapping else 0x1000
    for index in range(70_000):
        builder.segment(0x10000 + 0x1000 * index, index.to_bytes(4, "little"), memory_size=size)
    path = tmp_path / "many"
    builder.write(path)
    start = time.perf_counter()
    with open_elf_core(str(path)) as core:
        seconds = time.perf_counter() - start
        assert core.header.phnum == 70_001
        for index in (0, 35_000, 69_999):
            address = HostAddress(0x10000 + 0x1000 * index)
            assert core.memory.read(address, 4) == index.to_bytes(4, "little")
    assert seconds < 5
