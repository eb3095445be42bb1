"""Locks of small programs of ours, compiled and deadlocked here: who holds what, who waits."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

import vringcore
from tests.unwind.support import compile_c
from vringcore.model.locks import Lock
from vringcore.model.report import Report
from vringcore.model.values import Absent

PROGRAM = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct QemuMutex { pthread_mutex_t lock; const char *file; int line; bool initialized; }
    QemuMutex;
struct VirtIODevice { int unused; } device;
void *main_system_bus;

QemuMutex bql, first, second;
pthread_mutex_t recursive, checking, adaptive;
pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER, inner = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
pthread_rwlock_t table = PTHREAD_RWLOCK_INITIALIZER, pages = PTHREAD_RWLOCK_INITIALIZER;
sem_t semaphore;
pthread_barrier_t ready;

static void lock(QemuMutex *mutex, int line)
{
    pthread_mutex_lock(&mutex->lock);
    mutex->file = "locks.c";
    mutex->line = line;
}

static void say(const char *name)
{
    printf("%s %d\n", name, (int)syscall(SYS_gettid));
    fflush(stdout);
}

static void *take_first(void *arg)
{
    say("first");
    lock(&first, 11);
    pthread_mutex_lock(&recursive);
    pthread_mutex_lock(&recursive);
    pthread_rwlock_wrlock(&table);
    pthread_barrier_wait(&ready);
    lock(&second, 12);
    return arg;
}

static void *take_second(void *arg)
{
    say("second");
    lock(&second, 21);
    pthread_mutex_lock(&checking);
    pthread_mutex_lock(&adaptive);
    pthread_rwlock_rdlock(&pages);
    pthread_barrier_wait(&ready);
    lock(&first, 22);
    return arg;
}

#define WAITER(NAME, CALL) \
    static void *NAME(void *arg) { say(#NAME); pthread_barrier_wait(&ready); CALL; return arg; }
WAITER(want_bql, lock(&bql, 31))
WAITER(want_recursive, pthread_mutex_lock(&recursive))
WAITER(want_checking, pthread_mutex_lock(&checking))
WAITER(want_adaptive, pthread_mutex_lock(&adaptive))
WAITER(want_table, pthread_rwlock_rdlock(&table))
WAITER(write_table, pthread_rwlock_wrlock(&table))
WAITER(write_pages, pthread_rwlock_wrlock(&pages))
WAITER(want_self, pthread_mutex_lock(&inner); pthread_mutex_lock(&inner))
WAITER(want_signal, pthread_mutex_lock(&plain); pthread_cond_wait(&condition, &plain))
WAITER(want_semaphore, sem_wait(&semaphore))

int main(void)
{
    void *(*starts[])(void *) = { take_first, take_second, want_bql, want_recursive,
        want_checking, want_adaptive, want_table, write_table, write_pages, want_self, want_signal,
        want_semaphore };
    enum { COUNT = sizeof starts / sizeof *starts };
    pthread_t threads[COUNT];
    int types[] = { PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP };
    pthread_mutex_t *mutexes[] = { &recursive, &checking, &adaptive };

    for (int i = 0; i < 3; i++) {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, types[i]);
        pthread_mutex_init(mutexes[i], &attributes);
    }
    say("main");
    lock(&bql, 41);
    pthread_barrier_init(&ready, 0, COUNT);
    for (int i = 0; i < COUNT; i++)
        pthread_create(&threads[i], 0, starts[i], 0);
    pthread_join(threads[0], 0);
}
"""

NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child"]


def can_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0
    )


def core_of(program: Path, core: Path, prefix: list[str]) -> dict[str, int]:
    """Run the program until it hangs, take a core; return its threads' numbers by their names."""
    process = subprocess.Popen([*prefix, str(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = dict(process.stdout.readline().split() for _ in range(13))
        numbers = {name: int(number) for name, number in said.items()}
        pid = process.pid
        if prefix:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            pid = int(children.read_text().split()[0])
        until = time.monotonic() + 20
        while not hangs(pid) and time.monotonic() < until:
            time.sleep(0.05)
        command = ["gcore", "-o", str(core), str(pid)]
        subprocess.run(command, check=True, capture_output=True)
        Path(f"{core}.{pid}").rename(core)
        own = own_numbers(pid)
        return {name: own[number] for name, number in numbers.items()}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def hangs(pid: int) -> bool:
    calls = [(task / "syscall").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return len(calls) == 13 and all(call.startswith("202 ") for call in calls)


def own_numbers(pid: int) -> dict[int, int]:
    """Return the threads' numbers as seen from here by those that they have themselves."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        [numbers] = [line.split()[1:] for line in lines if line.startswith("NSpid:")]
        found[int(numbers[-1])] = int(task.name)
    return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("locks")
    return compile_c(PROGRAM, directory / "locks", "-g", "-O1", "-pthread")


Deadlock = tuple[Report, dict[str, Lock], dict[str, int]]


@pytest.fixture(scope="module", params=["here", "in-a-container"])
def deadlock(request: pytest.FixtureRequest, program: Path) -> Deadlock:
    prefix = NAMESPACE if request.param == "in-a-container" else []
    if shutil.which("gcore") is None or (prefix and not can_unshare()):
        pytest.skip("needs gdb, and for another namespace its permission")
    core = program.with_name(f"core-{request.param}")
    numbers = core_of(program, core, prefix)
    with vringcore.open_core(str(core), executable=str(program)) as opened:
        report = opened.report({"locks"})
    assert isinstance(report.locks, tuple)
    return report, {lock.name: lock for lock in report.locks}, numbers


def test_the_two_locks_of_a_deadlock(deadlock: Deadlock) -> None:
    _, locks, threads = deadlock
    first, second = locks["first"], locks["second"]
    assert (first.owner, first.waiters) == (threads["first"], (threads["second"],))
    assert (second.owner, second.waiters) == (threads["second"], (threads["first"],))
    assert (first.kind, first.locked_at) == ("mutex", "locks.c:11")
    assert second.locked_at == "locks.c:21"


def test_the_big_lock_comes_first(deadlock: Deadlock) -> None:
    report, locks, threads = deadlock
    assert isinstance(report.locks, tuple)
    assert report.locks[0] == locks["BQL"]
    assert (locks["BQL"].owner, locks["BQL"].waiters) == (threads["main"], (threads["want_bql"],))
    assert locks["BQL"].locked_at == "locks.c:41"


@pytest.mark.parametrize(
    ("name", "kind", "owner"),
    [
        ("recursive", "recursive-mutex", "first"),
        ("checking", "error-checking-mutex", "second"),
        ("adaptive", "mutex", "second"),
    ],
)
def test_kinds_of_mutexes(deadlock: Deadlock, name: str, kind: str, owner: str) -> None:
    _, locks, threads = deadlock
    assert locks[name].kind == kind
    assert locks[name].owner == threads[owner]
    assert locks[name].waiters == (threads[f"want_{name}"],)
    assert locks[name].locked_at is None


def test_a_thread_that_waits_for_its_own_lock(deadlock: Deadlock) -> None:
    _, locks, threads = deadlock
    own = threads["want_self"]
    assert (locks["inner"].owner, locks["inner"].waiters) == (own, (own,))


def test_the_writer_of_a_reader_writer_lock(deadlock: Deadlock) -> None:
    _, locks, threads = deadlock
    table = locks["table"]
    assert (table.kind, table.owner) == ("reader-writer-lock", threads["first"])
    assert set(table.waiters) == {threads["want_table"], threads["write_table"]}


def test_readers_are_not_told(deadlock: Deadlock) -> None:
    _, locks, threads = deadlock
    pages = locks["pages"]
    assert isinstance(pages.owner, Absent)
    assert pages.owner.reason == "not-recorded"
    assert pages.waiters == (threads["write_pages"],)


def test_who_waits_for_a_signal_waits_for_no_lock(deadlock: Deadlock) -> None:
    report, locks, threads = deadlock
    assert isinstance(report.locks, tuple)
    waiting = {lwp for lock in report.locks for lwp in lock.waiters}
    others = {"main", "want_signal", "want_semaphore"}
    assert waiting == set(threads.values()) - {threads[name] for name in others}
    assert set(locks) == {
        "BQL", "first", "second", "recursive", "checking", "adaptive", "inner", "table", "pages",
    }  # fmt: skip
