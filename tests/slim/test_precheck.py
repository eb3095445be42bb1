"""precheck --pid foretells the core that the kernel then writes; it stops nothing."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.capture import kernel_core_refusal
from tests.lab.paths import qemu_directory
from vringcore.errors import NoSuchProcessError
from vringcore.model.precheck import PrecheckDocument
from vringcore.model.report import Tool
from vringcore.options import Options
from vringcore.qemu.precheck import precheck_core
from vringcore.slim.precheck import precheck_process
from vringcore.slim.precheck_dump import dumped_size, mappings

MIB = 1 << 20
QEMU = qemu_directory("7.2") / "qemu-system-x86_64"
FIRMWARE = ("-L", "/usr/share/qemu", "-L", "/usr/share/seabios")
needs_qemu = pytest.mark.skipif(
    not QEMU.exists(), reason="no QEMU: run `python -m tests.lab build 7.2`"
)
MEMORY = "-machine q35,memory-backend=m -m 64 -object memory-backend-"
CASES = {
    "plain": ("-machine q35 -m 64", 0x33, True),
    "excluded": ("-machine q35,dump-guest-core=off -m 64", 0x33, False),
    "memfd": (MEMORY + "memfd,id=m,size=64M,share=on", 0x33, True),
    "memfd-less": (MEMORY + "memfd,id=m,size=64M,share=on", 0x31, False),
    "file": (MEMORY + "file,id=m,size=64M,share=on,mem-path={}/ram", 0x33, False),
    "file-all": (MEMORY + "file,id=m,size=64M,share=on,mem-path={}/ram", 0x7F, True),
    "file-private": (MEMORY + "file,id=m,size=64M,mem-path={}/ram", 0x33, None),
}
"""Command line, coredump_filter, whether guest RAM is then in a core (None: if it was written)."""


def check(pid: int) -> PrecheckDocument:
    return precheck_process(pid, Options())


@contextmanager
def qemu(directory: Path, arguments: str, filter_: int = 0x33) -> Iterator[subprocess.Popen[bytes]]:
    """A QEMU whose guest finds nothing to boot: its firmware alone has written into RAM."""
    words = arguments.format(directory).split()
    process = subprocess.Popen(
        [QEMU, *FIRMWARE, "-nodefaults", "-display", "none", "-accel", "tcg,tb-size=16",
         "-qmp", f"unix:{directory}/qmp,server=on,wait=off", *words],
        cwd=directory,
    )  # fmt: skip
    try:
        for _ in range(200):
            if (directory / "qmp").exists() and _threads(process.pid) >= 3:
                break
            time.sleep(0.05)
        Path(f"/proc/{process.pid}/coredump_filter").write_text(hex(filter_))
        time.sleep(2)
        yield process
    finally:
        process.kill()
        process.wait()


def _threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@needs_qemu
@pytest.mark.lab
@pytest.mark.parametrize("name", CASES)
def test_what_is_foretold_is_what_the_kernel_writes(tmp_path: Path, name: str) -> None:
    refusal = kernel_core_refusal()
    if refusal:
        pytest.skip(refusal)
    arguments, filter_, there = CASES[name]
    with qemu(tmp_path, arguments, filter_) as process:
        told = check(process.pid)
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(process.pid, resource.RLIMIT_CORE, unlimited)
        process.send_signal(signal.SIGABRT)
        process.wait(60)
    [path] = tmp_path.glob("core*")
    seen = precheck_core(str(path), Options(executable=str(QEMU)), Tool("vringcore", "test"))
    assert told.program.is_qemu is seen.program.is_qemu is True
    assert told.program.build_id == seen.program.build_id
    assert told.process
    assert seen.core
    assert told.process.pid == seen.program.pid
    assert told.process.threads == seen.threads
    assert told.process.coredump_filter == filter_
    assert told.guest_ram.configured == seen.guest_ram.configured == 64 * MIB
    assert (told.guest_ram.state, told.guest_ram.bytes) == (
        seen.guest_ram.state, seen.guest_ram.bytes,
    )  # fmt: skip
    if there is not None:
        assert told.guest_ram.state == ("present" if there else "absent")
    # The file has headers and notes beside; of stacks a page may come or go.
    assert isinstance(told.process.core_apparent, int)
    assert abs(told.process.core_apparent - seen.core.size) < MIB
    advice = " ".join(each.how for each in told.next_capture)
    assert ("coredump_filter" in advice or "dump-guest-core" in advice) is (
        told.guest_ram.state == "absent"
    )


@needs_qemu
@pytest.mark.lab
def test_limits_and_the_program_s_file(tmp_path: Path) -> None:
    with qemu(tmp_path, CASES["plain"][0]) as process:
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (4096, 4096))
        start = time.process_time()
        told = check(process.pid)
        assert time.process_time() - start < 0.3
        stat = Path(f"/proc/{process.pid}/stat").read_text()
    assert told.process
    assert told.process.core_limit == 4096
    assert told.process.executable_deleted is False
    assert told.process.threads_in_d == ()
    assert told.debug_information.state == "executable"
    assert {each.answer for each in told.answers} == {"yes"}
    assert stat.rpartition(")")[2].split()[0] in "SR", "it was stopped"
    if isinstance(told.process.core_pattern, str) and not told.process.core_pattern.startswith("|"):
        assert any("--core=unlimited" in each.how for each in told.next_capture)
    place = shutil.disk_usage(tmp_path)
    if told.process.core_pattern == "core":
        assert told.process.destination == str(tmp_path)
        assert isinstance(told.process.free_space, int)
        assert abs(told.process.free_space - place.free) < 2 << 30


def test_another_program_and_none() -> None:
    told = check(os.getpid())
    assert told.program.is_qemu is False
    assert {each.answer for each in told.answers} == {"no"}
    assert told.next_capture == ()
    with pytest.raises(NoSuchProcessError):
        check((1 << 22) + 1)


SMAPS = """\
7f0000000000-7f0004000000 rw-p 00000000 00:00 0 
Rss:               65536 kB
Anonymous:         65536 kB
Swap:                 16 kB
VmFlags: rd wr mr mw me ac {flags}
7f0004000000-7f0004001000 rw-s 00000000 00:01 7      /dev/shm/a: b  (deleted)
Rss:                   4 kB
VmFlags: rd wr sh
"""  # noqa: W291 - as the kernel writes it


@pytest.mark.parametrize(
    ("flags", "bits", "sizes"),
    [
        ("", 0x33, [64 * MIB, 4096]),
        ("dd", 0x7F, [0, 4096]),
        ("io", 0x7F, [0, 4096]),
        ("ht", 0x33, [64 * MIB, 4096]),
        ("ht", 0x13, [0, 4096]),
        ("", 0x30, [0, 0]),
    ],
)
def test_the_kernel_s_rules(flags: str, bits: int, sizes: list[int]) -> None:
    found = list(mappings(SMAPS.format(flags=flags), "smaps"))
    assert [dumped_size(each, bits) for each in found] == sizes
    assert found[1].path == "/dev/shm/a: b  (deleted)"
    assert (found[0].resident, found[0].swapped) == (64 * MIB, 16 << 10)
