"""A running process read as if it were a core, beside what it says of itself, gdb and readelf."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.slim.target import (
    NOBODY,
    READER,
    RUNNER,
    WAITER,
    Target,
    as_user,
    needs_root,
    needs_root_without_yama,
    reads_one_of_another,
    started,
    until,
)
from vringcore.addresses import HostAddress
from vringcore.debuginfo.find import find_executable
from vringcore.elfcore import slimnote
from vringcore.elfcore.executable import read_executable
from vringcore.elfcore.headers import ET_CORE
from vringcore.errors import (
    FileError,
    MemoryFault,
    NoSuchProcessError,
    ProcessAccessError,
    ProcessEndedError,
    ProcessKindError,
    VringcoreError,
)
from vringcore.memory.files import FileSource
from vringcore.memory.gaps import GapKind
from vringcore.slim.live import LiveProcess, live_segments, open_live
from vringcore.slim.procfs import Mapping, ProcessDirectory
from vringcore.slim.snapshot import BLOCK_SIZE, Snapshot

KNOWN = bytes(i % 251 for i in range(3 * 4096))


def gap_at(live: LiveProcess, address: int) -> tuple[GapKind, str]:
    with pytest.raises(MemoryFault) as caught:
        live.memory.read(HostAddress(address), 8)
    return caught.value.gap.kind, caught.value.gap.hint


def test_memory_is_the_process_s(sleeping: Target) -> None:
    facts = sleeping.facts
    with open_live(sleeping.pid) as live:
        for start, size in ((0, len(KNOWN)), (1, 5), (4090, 12), (4096, 4096), (8191, 1), (7, 0)):
            read = live.memory.read(HostAddress(facts["known"] + start), size)
            assert read == KNOWN[start : start + size]
        assert live.string_at(facts["literal"]) == "a literal in .rodata"
        assert live.string_at(facts["shared"]) == "in the file"
        assert live.string_at(facts["zero"]) == "over zero"
        own = live.memory.read(HostAddress(facts["own"][READER]), 8)
        assert int.from_bytes(own, "little") == 0x1111 * (READER + 2)


def test_what_is_not_there_says_why(sleeping: Target) -> None:
    with open_live(sleeping.pid) as live:
        kind, hint = gap_at(live, sleeping.facts["guard"])
        assert kind is GapKind.NOT_DUMPED
        assert "may not read it" in hint
        # The second page of a mapping of a file that has one.
        kind, hint = gap_at(live, sleeping.facts["shared"] + 4096)
        assert kind is GapKind.IO
        pieces = list(live.memory.pieces(HostAddress(sleeping.facts["shared"]), 8192))
        assert [(p.size, p.data is None) for p in pieces] == [(4096, False), (4096, True)]
        assert gap_at(live, 8)[0] is GapKind.UNMAPPED
        for name in ("[vvar]", "[vsyscall]"):
            row = next((r for r in maps(sleeping) if r[1] == name), None)
            if row is not None:
                assert gap_at(live, row[0])[0] is GapKind.NOT_DUMPED
        vdso = next((start for start, name in maps(sleeping) if name == "[vdso]"), None)
        if vdso is not None:
            assert live.memory.read(HostAddress(vdso), 4) == b"\x7fELF"


def maps(target: Target) -> list[tuple[int, str]]:
    lines = Path(f"/proc/{target.pid}/maps").read_bytes().splitlines()
    named = [line.split() for line in lines if line.endswith(b"]")]
    return [(int(words[0].partition(b"-")[0], 16), words[-1].decode()) for words in named]


def mapping(path: str, permissions: str = "rw-s") -> Mapping:
    return Mapping(0x10000, 0x20000, permissions, 0, 1, path)


@pytest.mark.parametrize(
    ("path", "is_read"),
    [
        ("", True),
        ("[heap]", True),
        ("[anon: malloc]", True),
        ("[vvar]", False),
        ("[vvar_vclock]", False),
        ("[vsyscall]", False),
        ("/usr/lib/libc.so.6", True),
        ("/memfd:pc.ram (deleted)", True),
        ("/SYSV00000000 (deleted)", True),
        ("/[aio] (deleted)", True),
        ("/anon_hugepage (deleted)", True),
        ("/dev/zero (deleted)", True),
        ("/dev/shm/ram", True),
        ("/dev/hugepages/libvirt/ram", True),
        ("/mnt/huge/ram", True),
        ("/dev/hugepages2", False),
        ("/dev/zeros", False),
        ("/dev/vfio/12", False),
        ("/dev/mem", False),
        ("/dev/dri/renderD128", False),
        ("/dmabuf:", False),
        ("anon_inode:[vfio-device]", False),
        ("anon_inode:kvm-vcpu:0", False),
        ("anon_inode:[io_uring]", False),
        ("/sys/devices/pci0000:00/0000:00:02.0/resource0", False),
        ("/proc/bus/pci/00/02.0", False),
        ("socket:[123]", False),
    ],
)
def test_no_device_is_ever_read(path: str, is_read: bool) -> None:
    [segment] = live_segments([mapping(path)], ("/dev/hugepages/", "/mnt/huge/"))
    assert (segment.file_end > segment.address) is is_read
    assert bool(segment.hint) is not is_read
    [refused] = live_segments([mapping(path, "---p")], ())
    assert refused.file_end == refused.address


def test_it_is_a_process_like_that_of_a_core(sleeping: Target) -> None:
    program = str(sleeping.process.args[0])  # type: ignore[index]
    with FileSource.open(program) as source, open_live(sleeping.pid) as live:
        executable = read_executable(source)
        assert (live.kind, live.path, live.truncated) == ("live", f"/proc/{sleeping.pid}", False)
        assert (live.header.type, live.header.machine) == (ET_CORE, executable.header.machine)
        assert live.executable is not None
        assert live.executable.path == live.executable_path == live.executable_file == program
        assert live.executable.build_id == executable.build_id != ""
        assert live.executable.load_bias == live.executable_bias(executable.header.entry)
        library = next(m for m in live.modules if "libc" in m.path)
        assert library.build_id == note_of(library.path)
        assert live.module_at(library.start) is library
        assert live.prpsinfo is not None
        assert (live.prpsinfo.pid, live.prpsinfo.ppid) == (sleeping.pid, os.getpid())
        assert (live.prpsinfo.fname, live.prpsinfo.psargs) == ("target", program)
        assert live.arguments == (program,)
        assert live.slim is not None
        assert live.slim.captured_at == pytest.approx(time.time(), abs=5)
        assert live.slim.clock_ns == pytest.approx(time.monotonic_ns(), abs=5e9)
        assert sleeping.shared_path in live.descriptors.values()
        assert slimnote.decode(slimnote.encode(live.slim), "") == live.slim
        assert live.sysroot is None
        assert live.notes() is None
        assert live.size == sum(r.readable for r in live.memory.ranges()) > len(KNOWN)


def note_of(path: str) -> str:
    text = subprocess.run(["readelf", "-n", path], check=True, capture_output=True, text=True)
    return text.stdout.partition("Build ID: ")[2].split()[0]


def test_threads_know_where_they_sleep(program: Path, tmp_path: Path) -> None:
    with started(program, tmp_path, "run") as target, open_live(target.pid) as live:
        threads = {thread.lwp: thread for thread in live.threads}
        assert live.threads[0].lwp == target.pid
        assert set(threads) == set(target.lwps)
        for index in (READER, WAITER):
            thread = threads[target.facts["tids"][index]]
            sp, pc = thread.registers.values()
            stack = live.memory.segment_at(sp)
            code = live.memory.segment_at(pc)
            assert stack is not None
            assert stack.writable
            assert stack.address <= target.facts["own"][index] < stack.end
            assert code is not None
            assert code.executable
            assert thread.fs_base is None
            assert thread.raw_registers == b""
        assert threads[target.facts["tids"][RUNNER]].registers == {}


@reads_one_of_another
@pytest.mark.skipif(shutil.which("gdb") is None, reason="needs gdb")
def test_stack_pointer_and_program_counter_are_gdbs(sleeping: Target) -> None:
    with open_live(sleeping.pid) as live:
        reader = next(t for t in live.threads if t.lwp == sleeping.facts["tids"][READER])
    command = ["gdb", "-nx", "-batch", "-p", str(sleeping.pid)]
    command += ["-ex", "thread find a (reader)", "-ex", "thread apply all p/x $sp"]
    command += ["-ex", "thread apply all p/x $pc"]
    said = subprocess.run(command, capture_output=True, timeout=60).stdout.decode(errors="replace")
    sp, pc = reader.registers.values()
    assert f"= {sp:#x}\n" in said
    assert f"= {pc:#x}\n" in said


def test_what_was_read_stays_and_what_moved_is_told(sleeping: Target) -> None:
    facts = sleeping.facts
    ticks = HostAddress(facts["ticks"])
    with open_live(sleeping.pid) as live:
        first = live.memory.read(ticks, 8)
        live.memory.read(HostAddress(facts["known"]), len(KNOWN))
        assert sleeping.runs()
        assert live.memory.read(ticks, 8) == first
        assert live.moved([(facts["known"], len(KNOWN))]) == []
        assert live.moved([(ticks, 8)]) == [(ticks, 8)]
        assert live.moved([(ticks - 8, 3), (ticks - 8, 11)]) == [(ticks, 3)]
        # What was never read cannot have moved.
        assert live.moved([(facts["zero"], 4096)]) == []
    live.close()
    assert not live.ended


def test_the_snapshot_is_bounded(sleeping: Target) -> None:
    with open_live(sleeping.pid, max_snapshot=64 << 20) as live:
        known = HostAddress(sleeping.facts["known"])
        assert live.memory.read(known, 10) == KNOWN[:10]
    memory = os.open(f"/proc/{sleeping.pid}/mem", os.O_RDONLY)
    snapshot = Snapshot(memory, "memory", limit=2 * BLOCK_SIZE)
    assert snapshot.read(known, 2 * 4096) == KNOWN[: 2 * 4096]
    with pytest.raises(FileError, match="no more of the process's memory is kept"):
        snapshot.read(known, 3 * 4096)
    assert snapshot.read(known + 4096, 5) == KNOWN[4096:4101]
    snapshot.close()
    with pytest.raises(FileError, match="is closed"):
        snapshot.read(known, 5)


def test_many_may_read_at_once(sleeping: Target) -> None:
    wrong: list[object] = []
    with open_live(sleeping.pid) as live:

        def read(seed: int) -> None:
            for step in range(2000):
                start = (step * 37 * seed) % (len(KNOWN) - 5000)
                size = 1 + (step * seed) % 5000
                address = HostAddress(sleeping.facts["known"] + start)
                if live.memory.read(address, size) != KNOWN[start : start + size]:
                    wrong.append((start, size))

        readers = [threading.Thread(target=read, args=(seed,)) for seed in (1, 3, 7)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert wrong == []


def test_a_thread_names_its_process(sleeping: Target) -> None:
    with open_live(sleeping.facts["tids"][READER]) as live:
        assert (live.pid, live.path) == (sleeping.pid, f"/proc/{sleeping.pid}")


# Processes that end


def test_it_ends_while_it_is_read(sleeping: Target) -> None:
    known = HostAddress(sleeping.facts["known"])
    with open_live(sleeping.pid) as live:
        assert live.memory.read(known, 10) == KNOWN[:10]
        assert not live.ended
        sleeping.process.kill()
        sleeping.process.wait()
        assert until(lambda: live.ended)
        assert live.memory.read(known, 10) == KNOWN[:10]
        kind, hint = gap_at(live, known + 4096)
        assert kind is GapKind.IO
        assert "the process ended" in hint
        with pytest.raises(FileError, match="ended"):
            live.moved([(known, 10)])
    assert until(lambda: live.ended)


@pytest.mark.parametrize("stop", [None, 5.0])
@pytest.mark.parametrize("end", ["zombie", "gone"])
def test_it_ends_while_it_is_opened(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: float | None, end: str
) -> None:
    """Before whichever look at it, the outcome is a process or one of our errors."""
    looks = 0
    fatal = 1
    targets: list[Target] = []

    def look(directory: ProcessDirectory) -> None:
        nonlocal looks
        looks += 1
        if looks == fatal and directory.pid == targets[-1].pid:
            targets[-1].process.kill()
            # One that we have stopped ends when we let it go.
            assert until(lambda: targets[-1].state() in ("Z", "t"))
            if end == "gone" and targets[-1].state() == "Z":
                targets[-1].process.wait()

    for name in ("open", "link", "numbers"):
        monkeypatch.setattr(ProcessDirectory, name, after(look, getattr(ProcessDirectory, name)))
    outcomes = []
    while looks >= fatal - 1:  # the last time it was opened, it was still looked at
        looks = 0
        with started(program, tmp_path) as target:
            targets.append(target)
            try:
                open_live(target.pid, stop=stop).close()
                outcomes.append("open")
            except (ProcessEndedError, ProcessKindError, NoSuchProcessError) as error:
                outcomes.append(error.code)
        fatal += 1
    assert len(outcomes) > 20
    assert outcomes[0] != "open"
    assert len(set(outcomes)) > 1


def after(look: Callable[[ProcessDirectory], None], do: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a process's directory that looks first."""

    def method(directory: ProcessDirectory, *words: Any) -> Any:
        look(directory)
        return do(directory, *words)

    return method


def test_a_zombie(sleeping: Target) -> None:
    os.kill(sleeping.pid, signal.SIGKILL)
    assert until(lambda: sleeping.state() == "Z")
    with pytest.raises(ProcessKindError, match="is a zombie") as caught:
        open_live(sleeping.pid)
    assert f"its parent, process {os.getpid()}, has not waited" in caught.value.hint


def test_no_such_process() -> None:
    with pytest.raises(NoSuchProcessError):
        open_live(1 << 30)


@needs_root
def test_a_thread_of_the_kernel() -> None:
    kernel = next((p for p in Path("/proc").glob("[0-9]*") if is_of_the_kernel(p)), None)
    if kernel is None:
        pytest.skip("no thread of the kernel is seen from here")
    with pytest.raises(ProcessKindError, match="without memory"):
        open_live(int(kernel.name))


def is_of_the_kernel(place: Path) -> bool:
    try:
        return "Kthread:\t1" in (place / "status").read_text()
    except OSError:
        return False


def test_a_32_bit_process(tmp_path: Path) -> None:
    source = tmp_path / "small.c"
    source.write_text(
        "void _start(void) { for (;;) __asm__ volatile("
        '"int $0x80" :: "a"(29) : "memory"); }\n'  # pause
    )
    command: list[str | Path] = [
        "gcc",
        "-m32",
        "-nostdlib",
        "-static",
        "-o",
        tmp_path / "small",
        source,
    ]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this gcc builds no 32-bit programs")
    with subprocess.Popen([tmp_path / "small"]) as process:
        try:
            time.sleep(0.05)
            if process.poll() is not None:
                pytest.skip("this kernel runs no 32-bit programs")
            with pytest.raises(ProcessKindError, match="32-bit"):
                open_live(process.pid)
        finally:
            process.kill()


# Whose process it is


@needs_root_without_yama
def test_the_same_user_reads_it(program: Path, tmp_path: Path) -> None:
    with started(program, tmp_path, user=NOBODY) as target:

        def attempt() -> str:
            with open_live(target.pid) as live:
                found = live.memory.read(HostAddress(target.facts["known"]), len(KNOWN))
                assert live.slim is not None
                return repr((found == KNOWN, len(live.threads), live.slim.threads[0].kernel_stack))

        told = as_user(NOBODY, attempt)
    assert told == repr((True, 3, "only root is told the kernel's stack"))


@needs_root
def test_another_user_does_not(sleeping: Target) -> None:
    def attempt() -> str:
        with pytest.raises(ProcessAccessError) as caught:
            open_live(sleeping.pid)
        return str(caught.value)

    told = as_user(NOBODY, attempt)
    assert "the process is user 0's" in told
    assert "run as root" in told
    assert sleeping.runs()


# Files that are no longer where they were


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_the_program_is_found_when_its_file_is_gone(
    program: Path, tmp_path: Path, change: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copy(program, copy)
    with started(copy, tmp_path / "run") as target:
        copy.unlink()
        if change == "replaced":
            shutil.copy("/bin/true", copy)
        with open_live(target.pid) as live:
            assert live.executable_file == f"/proc/{target.pid}/exe"
            assert live.executable is not None
            assert live.executable.deleted
            assert live.executable.path == str(copy)
            with FileSource.open(live.executable_file) as source:
                assert read_executable(source).build_id == live.executable.build_id


CONTAINER = """
mount --bind "$1" "$1" && cd "$1" && pivot_root . old && exec /links/program
"""


@needs_root
def test_a_container_has_its_own_root(program: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("old", "dev", "bin", "links"):
        (root / name).mkdir(parents=True)
    static = root / "bin" / "static"
    build: list[str | Path] = ["gcc", "-static", "-pthread", "-Wl,--build-id", "-o", static]
    build.append(program.with_name("target.c"))
    subprocess.run(build, check=True, capture_output=True)
    (root / "dev" / "zero").write_bytes(bytes(4096))
    (root / "links" / "program").symlink_to("/links/again")
    (root / "links" / "again").symlink_to("../../../bin/static")
    (root / "links" / "circle").symlink_to("circle")
    arguments = ("--mount", "sh", "-c", CONTAINER, "sh", str(root))
    with (
        started(Path("/usr/bin/unshare"), tmp_path / "cwd", *arguments) as target,
        open_live(target.pid) as live,
    ):
        assert live.executable is not None
        assert live.executable_path == "/bin/static"
        assert live.sysroot == f"/proc/{target.pid}/root"
        assert live.executable_file == f"/proc/{target.pid}/exe"
        for path in ("/bin/static", "/links/program"):
            found = find_executable(live.executable.build_id, path, sysroot=live.sysroot)
            assert found.path == f"{live.sysroot}/bin/static"
        assert find_executable("00", "/links/circle", sysroot=live.sysroot).path == ""
        assert live.string_at(target.facts["literal"]) == "a literal in .rodata"


def test_every_failure_is_ours(sleeping: Target) -> None:
    for pid in (-5, 0, 1 << 40):
        with pytest.raises(VringcoreError):
            open_live(pid)
