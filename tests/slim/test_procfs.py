"""What /proc says of real processes, beside what they say themselves and what os says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from struct import Struct

import pytest

from tests.slim.target import (
    MAIN,
    NOBODY,
    READER,
    RUNNER,
    SHARED,
    WAITER,
    Target,
    as_user,
    needs_root,
    needs_root_without_yama,
    started,
    until,
)
from vringcore.elfcore.notes import AT_ENTRY, AT_PAGESZ, AT_RANDOM
from vringcore.errors import (
    CorruptDataError,
    LimitError,
    NoSuchProcessError,
    ProcessAccessError,
    ProcessEndedError,
    ProcessKindError,
    VringcoreError,
)
from vringcore.slim import access, procfs
from vringcore.slim.procfs import ProcessDirectory

SYSCALLS = {"x86_64": {"read": 0, "futex": 202, "clock_nanosleep": 230}}


def test_status_auxv_and_arguments(sleeping: Target) -> None:
    with ProcessDirectory(sleeping.pid) as directory:
        status = procfs.read_status(directory)
        auxv = procfs.read_auxv(directory, Struct("=QQ"))
        arguments = procfs.read_arguments(directory)
    assert (status.name, status.tgid, status.ppid) == ("target", sleeping.pid, os.getpid())
    assert (status.uid, status.gid, status.tracer) == (os.getuid(), os.getgid(), 0)
    assert auxv[AT_PAGESZ] == os.sysconf("SC_PAGE_SIZE")
    assert {AT_ENTRY, AT_RANDOM} <= auxv.keys()
    assert arguments == (str(sleeping.process.args[0]),)  # type: ignore[index]


def test_maps_are_the_files(sleeping: Target) -> None:
    with ProcessDirectory(sleeping.pid) as directory:
        mappings = procfs.read_maps(directory)
        descriptors = procfs.read_descriptors(directory)
    assert [m.start for m in mappings] == sorted(m.start for m in mappings)
    by_start = {m.start: m for m in mappings}
    shared = by_start[sleeping.facts["shared"]]
    assert shared.path == sleeping.shared_path
    assert (shared.permissions, shared.end - shared.start) == ("rw-s", 8192)
    assert shared.inode == (sleeping.directory / SHARED).stat().st_ino
    literal = next(m for m in mappings if m.start <= sleeping.facts["literal"] < m.end)
    assert literal.path == str(sleeping.process.args[0])  # type: ignore[index]
    assert any(m.path == "[stack]" for m in mappings)
    assert sleeping.shared_path in descriptors.values()
    assert descriptors[str(sleeping.facts["pipe"])].startswith("pipe:[")
    assert descriptors["1"] == os.readlink(f"/proc/{sleeping.pid}/fd/1")


def test_threads_sleep_where_they_sleep(program: Path, tmp_path: Path) -> None:
    with (
        started(program, tmp_path, "run") as target,
        ProcessDirectory(target.pid) as directory,
    ):
        threads = {facts.lwp: facts for facts in procfs.read_threads(directory)}
        numbers = procfs.thread_numbers(directory)
    lwps = target.facts["tids"]
    assert numbers[0] == target.pid
    assert set(numbers) == set(threads) == set(target.lwps)
    reader, waiter = threads[lwps[READER]], threads[lwps[WAITER]]
    assert [threads[lwps[i]].name for i in (READER, WAITER, RUNNER, MAIN)] == [
        "a (reader) x",
        "wait\\xffer",
        "runner",
        "target",
    ]
    assert (reader.state, waiter.state, threads[lwps[RUNNER]].state) == ("S", "S", "R")
    assert reader.syscall is not None
    assert waiter.syscall is not None
    assert reader.syscall.arguments[0] == target.facts["pipe"]
    assert reader.syscall.arguments[2] == 1
    assert len(reader.syscall.arguments) == 6
    numbers_here = SYSCALLS.get(os.uname().machine)
    if numbers_here is not None:
        assert reader.syscall.number == numbers_here["read"]
        assert waiter.syscall.number == numbers_here["futex"]
    assert reader.registers == "sp-pc"


@needs_root
def test_root_is_told_the_kernel_stack(sleeping: Target) -> None:
    with ProcessDirectory(sleeping.pid) as directory:
        facts = procfs.read_thread(directory, sleeping.facts["tids"][READER])
    assert facts is not None
    assert isinstance(facts.kernel_stack, tuple)
    names = [frame.partition("+")[0] for frame in facts.kernel_stack]
    assert any("pipe_read" in name for name in names)
    assert names.index("vfs_read") > 0
    assert facts.wchan in names


@needs_root_without_yama
def test_another_user_is_told_why_there_is_no_stack(program: Path, tmp_path: Path) -> None:
    with started(program, tmp_path, user=NOBODY) as target:
        told = as_user(NOBODY, lambda: repr(_stack(target)))
    assert told == repr("only root is told the kernel's stack")


def _stack(target: Target) -> object:
    with ProcessDirectory(target.pid) as directory:
        facts = procfs.read_thread(directory, target.facts["tids"][READER])
    assert facts is not None
    assert facts.syscall is not None
    return facts.kernel_stack


@needs_root
def test_what_allows_it_is_said(sleeping: Target) -> None:
    def attempt() -> str:
        with ProcessDirectory(sleeping.pid) as directory:
            try:
                procfs.read_maps(directory)
            except ProcessAccessError as error:
                return str(error)
        return ""

    told = as_user(NOBODY, attempt)
    assert f"we are user {NOBODY}" in told
    assert "the process is user 0's" in told
    assert "no CAP_SYS_PTRACE" in told
    assert "ptrace_scope" in told
    assert told.endswith("run as root")


@pytest.mark.parametrize(
    ("us", "owner", "scope", "tracer", "able", "hint"),
    [
        (1000, 1000, 1, 0, False, "let root set kernel.yama.ptrace_scope to 0"),
        (1000, 1000, None, 0, False, "changed its user"),
        (1000, 0, None, 0, False, "run as root"),
        (1000, 1001, 1, 0, False, "run as root or as user 1001"),
        (0, 0, 0, 0, False, "--cap-add=SYS_PTRACE"),
        (0, 0, 0, 0, True, "security module"),
        (0, 0, 3, 0, True, "until the machine is started again"),
        (0, 0, 0, 77, True, "end the debugger"),
    ],
)
def test_the_way_out(
    us: int, owner: int, scope: int | None, tracer: int, able: bool, hint: str
) -> None:
    assert hint in access.way_out(us, owner, scope, tracer, able=able)


def test_no_such_process() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    for pid in (process.pid, 0, -1):
        with pytest.raises(NoSuchProcessError, match="no such process") as caught:
            ProcessDirectory(pid)
        assert str(pid) in caught.value.where


def test_a_process_that_ends_is_not_mistaken_for_another(sleeping: Target) -> None:
    with ProcessDirectory(sleeping.pid) as directory:
        assert not directory.ended()
        sleeping.process.kill()
        sleeping.process.wait()
        assert directory.ended()
        for read in (procfs.read_status, procfs.read_maps, procfs.read_threads):
            with pytest.raises(ProcessEndedError):
                read(directory)
        assert procfs.read_thread(directory, sleeping.pid) is None


def test_a_zombie_is_told(sleeping: Target) -> None:
    with ProcessDirectory(sleeping.pid) as directory:
        os.kill(sleeping.pid, signal.SIGKILL)
        assert until(lambda: sleeping.state() == "Z")
        assert directory.ended()
        assert procfs.read_status(directory).state == "Z"
        # The main thread may be the first to end.
        assert until(lambda: procfs.read_threads(directory) == [])


def test_only_linux_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ProcessKindError, match="on Linux only"):
        ProcessDirectory(os.getpid())


# Files of /proc that cannot be had for the asking: a directory stands for /proc.


@pytest.fixture
def written(tmp_path: Path) -> ProcessDirectory:
    (tmp_path / "7" / "task" / "7").mkdir(parents=True)
    (tmp_path / "7" / "stat").write_text("7 (x) S 1")
    (tmp_path / "7" / "statm").write_text("100 10 1 1 0 10 0\n")
    return ProcessDirectory(7, str(tmp_path))


def put(directory: ProcessDirectory, name: str, text: str) -> None:
    Path(directory.path, name).write_bytes(text.encode("utf-8", "surrogateescape"))


def test_names_are_unescaped(written: ProcessDirectory) -> None:
    row = "7f00-7f01 r--s 00001000 fe:00 12   /a\\012b (deleted)\n1000-2000 ---p 0 00:00 0 \n"
    put(written, "maps", row)
    [first, second] = procfs.read_maps(written)
    assert (first.path, first.offset, first.inode) == ("/a\nb (deleted)", 0x1000, 12)
    assert (second.path, second.permissions) == ("", "---p")
    put(
        written, "mountinfo", "1 2 0:3 / /a\\040b rw - hugetlbfs none rw\n4 1 0:5 / /c rw - x y z\n"
    )
    assert procfs.hugetlb_mounts(written) == ("/a b/",)


@pytest.mark.parametrize("text", ["rubbish\n", "7f00-7f01 r--s zz 0 0\n", "\n"])
def test_a_file_that_is_not_understood_is_an_error(written: ProcessDirectory, text: str) -> None:
    put(written, "maps", text)
    put(written, "status", text)
    for read in (procfs.read_maps, procfs.read_status):
        with pytest.raises(CorruptDataError, match=r"not understood.*/7/"):
            read(written)


def test_limits(written: ProcessDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    put(written, "cmdline", "x" * 5000)
    with pytest.raises(LimitError):
        written.read("cmdline", 4999)
    put(written, "maps", "0-1 r--p 0 00:00 0 \n" * 3)
    monkeypatch.setattr(procfs, "MAX_MAPPINGS", 2)
    with pytest.raises(LimitError):
        procfs.read_maps(written)


@pytest.mark.parametrize(
    ("syscall", "number", "registers"),
    [
        ("295 0xa 0x7f 0x10 0x5b0000 0x0 0x0 0x7ffe 0x7f01\n", 295, "sp-pc"),
        ("-1 0x7ffe 0x7f01\n", -1, "sp-pc"),
        ("running\n", None, "none"),
    ],
)
def test_system_calls(
    written: ProcessDirectory, syscall: str, number: int | None, registers: str
) -> None:
    put(written, "task/7/stat", "7 (a) b) (c) D 1 2")
    put(written, "task/7/comm", "a) b) (c\n")
    put(written, "task/7/syscall", syscall)
    put(written, "task/7/stack", "[<0>] fuse_direct_IO+0x1/0x2 [fuse]\n[<0>] do_preadv+0x3/0x4\n")
    put(written, "task/7/wchan", "0")
    facts = procfs.read_thread(written, 7)
    assert facts is not None
    assert (facts.state, facts.name, facts.registers) == ("D", "a) b) (c", registers)
    assert facts.kernel_stack == ("fuse_direct_IO+0x1/0x2 [fuse]", "do_preadv+0x3/0x4")
    assert facts.wchan == ""
    assert (facts.syscall and facts.syscall.number) == number
    if facts.syscall is not None:
        assert (facts.syscall.sp, facts.syscall.pc) == (0x7FFE, 0x7F01)
        assert len(facts.syscall.arguments) in (0, 6)


def test_an_empty_stack_has_a_reason(written: ProcessDirectory) -> None:
    for name, text in {"stat": "7 (x) R 1", "comm": "x\n", "syscall": "running\n"}.items():
        put(written, f"task/7/{name}", text)
    put(written, "task/7/stack", "")
    facts = procfs.read_thread(written, 7)
    assert facts is not None
    assert re.search("ran while it was looked at", str(facts.kernel_stack))
    Path(written.path, "task/7/stack").unlink()
    facts = procfs.read_thread(written, 7)
    assert facts is not None
    assert re.search("this kernel does not tell it", str(facts.kernel_stack))
    # A process that is ending has no memory any more, and no files that tell of it.
    put(written, "statm", "0 0 0 0 0 0 0\n")
    with pytest.raises(ProcessEndedError):
        written.read("exe")
    assert procfs.read_thread(written, 7) is None


def test_every_error_is_ours() -> None:
    for error in (NoSuchProcessError, ProcessAccessError, ProcessEndedError, ProcessKindError):
        assert issubclass(error, VringcoreError)
        assert error.exit_code == 3
