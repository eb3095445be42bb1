"""A small process to be read while it runs: threads that sleep in known places, known memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NOBODY = 65534

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Yama lets a user who is not root read no process but those that the reader itself has started.
is_yama_strict = YAMA.exists() and YAMA.read_text() != "0\n"
needs_root_without_yama = pytest.mark.skipif(
    os.geteuid() != 0 or is_yama_strict, reason="needs root, and kernel.yama.ptrace_scope 0"
)
reads_one_of_another = pytest.mark.skipif(
    os.geteuid() != 0 and is_yama_strict, reason="needs root, or kernel.yama.ptrace_scope 0"
)

PROGRAM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { READER, WAITER, RUNNER, FORKER, THREADS };

const char literal[] = "a literal in .rodata";
char known[3 * 4096] __attribute__((aligned(4096)));
volatile uint64_t ticks, signals;
static volatile uint64_t spins;
static __thread uint64_t own = 0x1111;
static uint64_t *own_of[THREADS + 1];
static volatile pid_t tid_of[THREADS + 1];
static volatile pid_t child;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static int ends[2];
static int with_runner, with_forker;

static void on_signal(int number) { signals += number == SIGUSR1; }

static void enter(int which, const char *name)
{
    own = 0x1111 * (which + 2);
    own_of[which] = &own;
    prctl(PR_SET_NAME, name);
    tid_of[which] = syscall(SYS_gettid);
}

static void *reader(void *unused)
{
    char byte;
    enter(READER, "a (reader) x");
    while (read(ends[0], &byte, 1) >= 0) { }
    return unused;
}

static void *waiter(void *unused)
{
    enter(WAITER, "wait\xff" "er");
    pthread_mutex_lock(&held);
    return unused;
}

static void *runner(void *unused)
{
    enter(RUNNER, "runner");
    setpriority(PRIO_PROCESS, 0, 19);
    for (;;) spins++;
    return unused;
}

static void *forker(void *unused)
{
    enter(FORKER, "forker");
    if (vfork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        child = syscall(SYS_getpid);
        for (;;) syscall(SYS_pause);
    }
    for (;;) { spins++; usleep(1000); }
    return unused;
}

static void start(void *(*run)(void *), int which)
{
    pthread_t thread;
    pthread_create(&thread, 0, run, 0);
    while (!tid_of[which]) usleep(100);
}

static void *map(const char *path, int flags, size_t size, int protection)
{
    int fd = path ? open(path, O_RDWR | O_CREAT, 0600) : -1;
    if (path && path[0] != '/' && ftruncate(fd, 4096)) abort();
    return mmap(0, size, protection, flags, fd, 0);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        with_runner |= !strcmp(argv[i], "run");
        with_forker |= !strcmp(argv[i], "fork");
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 0; i < sizeof known; i++) known[i] = i % 251;
    if (pipe(ends)) abort();
    signal(SIGUSR1, on_signal);
    pthread_mutex_lock(&held);
    enter(THREADS, "target");
    start(reader, READER);
    start(waiter, WAITER);
    if (with_runner) start(runner, RUNNER);
    if (with_forker) { start(forker, FORKER); while (!child) usleep(100); }
    /* One page of the file, two mapped: the second cannot be read. */
    char *shared = map("shared\n\xff\x1c file", MAP_SHARED, 8192, PROT_READ | PROT_WRITE);
    char *guard = map(0, MAP_PRIVATE | MAP_ANONYMOUS, 4096, PROT_NONE);
    char *zero = map("/dev/zero", MAP_PRIVATE, 4096, PROT_READ | PROT_WRITE);
    strcpy(shared, "in the file");
    strcpy(zero, "over zero");
    printf("{\"literal\": %lu, \"known\": %lu, \"ticks\": %lu, \"signals\": %lu, \"spins\": %lu, "
           "\"shared\": %lu, \"guard\": %lu, \"zero\": %lu, \"pipe\": %d, \"child\": %d, ",
           (uintptr_t)literal, (uintptr_t)known, (uintptr_t)&ticks, (uintptr_t)&signals,
           (uintptr_t)&spins, (uintptr_t)shared, (uintptr_t)guard, (uintptr_t)zero, ends[0], child);
    printf("\"tids\": [%d, %d, %d, %d, %d], \"own\": [%lu, %lu, %lu, %lu, %lu]}\n", tid_of[0],
           tid_of[1], tid_of[2], tid_of[3], tid_of[4], (uintptr_t)own_of[0], (uintptr_t)own_of[1],
           (uintptr_t)own_of[2], (uintptr_t)own_of[3], (uintptr_t)own_of[4]);
    fflush(stdout);
    for (;;) {
        struct timespec moment = {0, 1000000};
        nanosleep(&moment, 0);
        ticks++;
    }
}
"""

SHARED = os.fsdecode(b"shared\n\xff\x1c file")
"""A name that is neither one line nor UTF-8."""

READER, WAITER, RUNNER, FORKER, MAIN = range(5)


class Target:
    """The running process, and what it said of itself."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.directory = directory
        assert process.stdout is not None
        self.facts: dict[str, Any] = json.loads(process.stdout.readline())
        self.pid = process.pid
        self.lwps = [lwp for lwp in self.facts["tids"] if lwp]

    @property
    def shared_path(self) -> str:
        """Its file as texts show it."""
        return os.fsencode(self.directory / SHARED).decode("utf-8", "backslashreplace")

    def number(self, name: str) -> int:
        """Return one of its counters, read from outside and not by the library."""
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as file:
            return int.from_bytes(os.pread(file.fileno(), 8, self.facts[name]), "little")

    def state(self, lwp: int | None = None) -> str:
        """Return the letter of a thread's state, by default the main thread's."""
        text = Path(f"/proc/{self.pid}/task/{lwp or self.pid}/stat").read_text(errors="replace")
        return text.rpartition(") ")[2][0]

    def states(self) -> list[str]:
        return [self.state(lwp) for lwp in self.lwps]

    def tracers(self) -> set[str]:
        """Return who traces its threads; ``{"0"}`` if nobody does."""
        found = set()
        for lwp in self.lwps:
            text = Path(f"/proc/{self.pid}/task/{lwp}/status").read_text(errors="replace")
            found.add(text.partition("TracerPid:")[2].split()[0])
        return found

    def runs(self) -> bool:
        """Tell whether its main thread makes progress."""
        before = self.number("ticks")
        return until(lambda: self.number("ticks") > before + 3, 2)

    def end_child(self) -> None:
        """End the child, so that the thread that made it comes out of its sleep."""
        os.kill(self.facts["child"], signal.SIGKILL)


def end(process: subprocess.Popen[str]) -> None:
    """End the program, and before it the child that one of its threads may wait for."""
    for name in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for child in name.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def build(directory: Path) -> Path:
    """Compile the program; anybody may run it."""
    source, program = directory / "target.c", directory / "target"
    source.write_text(PROGRAM)
    command: list[str | Path] = [
        "gcc",
        "-g",
        "-O1",
        "-Wl,--build-id",
        "-pthread",
        "-o",
        program,
        source,
    ]
    subprocess.run(command, check=True)
    os.chmod(directory, 0o755)
    os.chmod(program, 0o755)
    return program


@contextlib.contextmanager
def started(
    program: Path, directory: Path, *arguments: str, user: int | None = None
) -> Iterator[Target]:
    """Run the program in a directory that it may write to, ``run`` and ``fork`` with more threads.

    :param user: whose process it is, by default ours
    """
    directory.mkdir(exist_ok=True)
    if user is not None:
        os.chown(directory, user, -1)
    process = subprocess.Popen(
        [program, *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
    )
    try:
        target = Target(process, directory)
        # Every thread has come to where it sleeps.
        time.sleep(0.05)
        yield target
    finally:
        end(process)


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for a condition; tell whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def as_user(user: int, act: Callable[[], str]) -> str:
    """Return what a function returns when another user calls it, in a process of its own."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.write(theirs, act().encode())
            code = 0
        except BaseException:  # noqa: BLE001 - told to the one who waits
            os.write(theirs, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, text
    return text
