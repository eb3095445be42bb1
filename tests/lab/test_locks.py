"""Locks of real cores, as gdb reads them."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.cores import has_devices, lab_cores
from tests.lab.cases import CoreCase
from vringcore.model.locks import Lock

SCENARIOS = frozenset({"stuck-migration", "fork-deadlock", "bql-held", "busy", "stuck-throttle"})
BQL = ("bql", "qemu_global_mutex")

Case = tuple[CoreCase, tuple[Lock, ...]]


def scenario(core: CoreCase) -> str:
    return core.case.scenario


@pytest.fixture(
    scope="module", params=lab_cores(lambda core: has_devices(core) and scenario(core) in SCENARIOS)
)
def case(request: pytest.FixtureRequest) -> Case:
    core: CoreCase = request.param
    with core.open() as opened:
        locks = opened.report({"locks"}).locks
    assert isinstance(locks, tuple)
    return core, locks


def gdb(core: CoreCase, *commands: str) -> str:
    line = ["gdb", "-batch", "-nx"]
    for command in commands:
        line += ["-ex", command]
    line += [str(core.case.executable), str(core.path)]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout


def test_the_owner_of_the_big_lock(case: Case) -> None:
    core, locks = case
    said = gdb(core, *(f'printf "owner %d %p\\n", {n}.lock.__data.__owner, &{n}' for n in BQL))
    [(owner, address)] = re.findall(r"owner (\d+) (0x[0-9a-f]+)", said)
    assert locks[0].name == "BQL"
    assert locks[0].address == int(address, 16)
    assert locks[0].owner == (int(owner) or None)


def test_owners_and_waiters_of_all_mutexes(case: Case) -> None:
    core, locks = case
    mutexes = [lock for lock in locks if lock.kind.endswith("mutex") and lock.kind != "co-mutex"]
    owners = [
        f'printf "owner %d\\n", ((pthread_mutex_t *){int(lock.address):#x})->__data.__owner'
        for lock in mutexes
    ]
    # In futex(word, FUTEX_WAIT, ...) and not back from it: rax is an error of the kernel's own.
    waits = (
        'thread apply all -q printf "%d %d %#lx %d\\n", $_gthread, (int)$orig_rax, $rdi,'
        " ((int)$rsi & 127) == 0 && (long)$rax < 0"
    )
    said = gdb(core, *owners, "info threads", waits)
    assert [int(each) for each in re.findall(r"owner (\d+)", said)] == [
        lock.owner or 0 for lock in mutexes
    ]
    lwps = {
        int(n): int(lwp) for n, lwp in re.findall(r"^[* ] (\d+) .*?\(?LWP (\d+)\)?", said, re.M)
    }
    futexes = [
        (int(word, 16), lwps[int(n)])
        for n, word in re.findall(r"^(\d+) 202 (0x[0-9a-f]+) 1$", said, re.M)
    ]
    for lock in mutexes:
        assert set(lock.waiters) == {lwp for word, lwp in futexes if word == lock.address}


def test_the_holders_of_coroutine_locks(case: Case) -> None:
    core, locks = case
    found = [lock for lock in locks if lock.kind == "co-mutex"]
    said = gdb(
        core,
        *(
            f'printf "holder %#lx\\n", ((CoMutex *){int(lock.address):#x})->holder'
            for lock in found
        ),
    )
    holders = [int(each, 16) for each in re.findall(r"holder (0x[0-9a-f]+|0)", said)]
    assert holders == [int(lock.owner_coroutine or 0) for lock in found]


def test_a_migration_holds_the_big_lock(case: Case) -> None:
    core, locks = case
    if scenario(core) != "stuck-migration":
        pytest.skip("of stuck-migration")
    with core.open() as opened:
        threads = opened.report({"threads"}).threads
    assert isinstance(threads, tuple)
    roles = {thread.lwp: thread.role for thread in threads}
    assert isinstance(locks[0].owner, int)
    assert roles[locks[0].owner] == "migration"
    assert "main-loop" in {roles[lwp] for lwp in locks[0].waiters}


def test_a_deadlock_is_a_cycle(case: Case) -> None:
    core, locks = case
    if scenario(core) != "fork-deadlock":
        pytest.skip("of fork-deadlock")
    big, own = locks[0], next(lock for lock in locks if lock.name == "mon_lock")
    assert big.owner in own.waiters
    assert own.owner in big.waiters
