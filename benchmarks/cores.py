"""Cores of real QEMU processes for the two questions that size and number of queues ask.

A QEMU is started paused, without a guest; its disks are set up through qtest (qtest.py). Cores are
kept in ``$VRINGCORE_BENCH``, otherwise ``~/.cache/vringcore-bench``, and made once.

- By number of queues: 64 MiB of guest RAM, disks of at most 64 queues, the core by gcore.
- By size: one disk of four queues and guest RAM of the size asked for, hardly touched. The kernel
  writes the core as the process dies; it leaves holes for pages that were never written, so 64 GiB
  are some megabytes on disk, and every structure in it is that of a QEMU with so much RAM.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.qtest import RING_BYTES, Qtest

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_QUEUES = 64
"""Of one disk."""

SIZE_QUEUES = 4
"""Of the one disk of the cores by size."""

_FIRST_SLOT = 2
_SMALL_RAM = 64 << 20
_CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
_SHARE = ("/usr/share/qemu", "/usr/share/seabios")
_YEAR_NS = 365 * 86400 * 10**9
"""Latency of the disks: no read of them ever returns."""

_GEOMETRY = "cyls=1024,heads=16,secs=63"
"""Given, because QEMU would read the disk to guess it."""


def directory() -> Path:
    """Where the cores are kept: always outside the checkout."""
    configured = os.environ.get("VRINGCORE_BENCH")
    return Path(configured) if configured else Path.home() / ".cache" / "vringcore-bench"


def core_of_queues(executable: Path, queues: int) -> Path:
    """Return a core of a QEMU whose disks have so many queues, made by gcore if it is not there.

    :raises RuntimeError: if QEMU does not start
    """
    target = directory() / executable.parent.name / f"queues-{queues}"
    if not target.exists():
        with _scratch(target) as scratch, _paused(executable, queues, _SMALL_RAM, scratch) as qemu:
            subprocess.run(
                ["gcore", "-o", str(scratch / "core"), str(qemu.pid)],
                check=True,
                capture_output=True,
                timeout=120,
            )
            _copy_sparse(scratch / f"core.{qemu.pid}", target)
    return target


def core_of_size(executable: Path, ram: int) -> Path:
    """Return a core of a QEMU with ``ram`` bytes of guest RAM, written by the kernel.

    :raises RuntimeError: if QEMU does not start, or the kernel does not write the core there
    """
    target = directory() / executable.parent.name / f"ram-{ram >> 20}"
    if not target.exists():
        pattern = _CORE_PATTERN.read_text().strip()
        if pattern.startswith(("|", "/")):
            raise RuntimeError(f"{_CORE_PATTERN} is {pattern!r}: it must name a file, no path")
        with _scratch(target) as scratch, _paused(executable, SIZE_QUEUES, ram, scratch) as qemu:
            qemu.send_signal(signal.SIGABRT)
            qemu.wait(timeout=300)
            stem = pattern.partition("%")[0] or "core"
            (written,) = (path for path in scratch.iterdir() if path.name.startswith(stem))
            written.rename(target)
    return target


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Yield a directory on the target's file system, so that what is made there can be moved."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        yield Path(scratch)


@contextmanager
def _paused(executable: Path, queues: int, ram: int, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a QEMU whose disks have reads in every queue; it is killed afterwards."""
    if ram < _SMALL_RAM:
        raise ValueError(f"{ram} bytes of guest RAM: rings and firmware need {_SMALL_RAM}")
    disks = [min(MAX_QUEUES, queues - done) for done in range(0, queues, MAX_QUEUES)]
    assert (1 << 20) + queues * RING_BYTES <= _SMALL_RAM
    command = [
        str(executable),
        *(word for path in _SHARE for word in ("-L", path)),
        *("-S", "-no-user-config", "-nodefaults", "-display", "none", "-qtest", "stdio"),
        *("-qtest-log", "none", "-accel", "tcg,tb-size=1", "-machine", "q35,memory-backend=ram"),
        *("-m", f"{ram >> 20}M"),
        # Not reserved, for it may be more than the machine has.
        *("-object", f"memory-backend-ram,id=ram,size={ram},reserve=off"),
    ]
    for number, count in enumerate(disks):
        null = f"driver=null-co,node-name=null{number},size={1 << 30},latency-ns={_YEAR_NS}"
        disk = (
            f"virtio-blk-pci,id=disk{number},drive=null{number},num-queues={count},"
            f"addr={_FIRST_SLOT + number:#x},disable-legacy=on,ioeventfd=off,{_GEOMETRY}"
        )
        command += ["-blockdev", null, "-device", disk]
    log = cwd / "qemu.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=_allow_core,
        )
    try:
        session = Qtest(process)
        for number, count in enumerate(disks):
            try:
                session.start_disk(_FIRST_SLOT + number, number, number * MAX_QUEUES, count)
            except (OSError, RuntimeError) as error:
                raise RuntimeError(f"QEMU: {log.read_text()[-1000:]}") from error
        yield process
    finally:
        process.kill()
        process.communicate()


def _allow_core() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy under another name first, so that a half copy never has the final one."""
    part = source.with_name("sparse")
    subprocess.run(["cp", "--sparse=always", str(source), str(part)], check=True)
    part.rename(target)
