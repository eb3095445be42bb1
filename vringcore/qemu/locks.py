"""Locks as reports show them: who holds each, and who waits for it.

A mutex notes who holds it; waiters it does not know, they are the threads in futex() on its word.
A CoMutex has both. Condition variables, events and semaphores have no owner and are no locks here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.model.locks import Lock
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.futexes import LOW_LEVEL, MUTEX, RWLOCK, UNKNOWN, futex_waits
from vringcore.qemu.lock_places import BQL, LockPlace, LockPlaces
from vringcore.qemu.lock_structs import PthreadMutex, QemuMutex
from vringcore.qemu.nbd import co_mutex
from vringcore.qemu.thread_ids import ThreadIds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.futexes import FutexWait
    from vringcore.qemu.process import Process

CO_MUTEX = "co-mutex"

_KINDS = {0: MUTEX, 1: "recursive-mutex", 2: "error-checking-mutex", 3: MUTEX}
"""By PTHREAD_MUTEX_KIND_MASK_NP's bits of ``__kind``; 3 is an adaptive one."""

_KIND_MASK, _KIND_BITS = 3, 0x3FF
"""The kind, and all bits that glibc gives a meaning (nptl/pthreadP.h)."""

_TID_MASK = 0x3FFF_FFFF
"""FUTEX_TID_MASK (linux/futex.h)."""

# struct __pthread_rwlock_arch_t (sysdeps/nptl/bits/struct_rwlock.h), the same on both machines
_READERS, _WRPHASE_FUTEX, _WRITERS_FUTEX, _CUR_WRITER = 0, 8, 12, 24
_READER_SHIFT = 3

_NO_OWNER = Absent("not-recorded", None, "such a lock does not note who holds it")


def lock_models(
    process: Process, devices: Sequence[RawDevice], limits: list[Limitation]
) -> tuple[Lock, ...]:
    """Return the BQL and the locks that are held or waited for, named ones first.

    :param devices: whose own locks are among them
    :param limits: is added to: what could not be had
    """
    try:
        process.views.offset(PthreadMutex.c_type, "__data.__owner", PthreadMutex.unit)
        places = LockPlaces(process, devices, limits).all()
        waits = list(futex_waits(process))
    except VringcoreError as error:
        limits.append(Limitation("locks are not shown", str(error), error.hint))
        return ()
    return tuple(_Locks(process, places, waits, limits).models())


class _Locks:
    def __init__(
        self,
        process: Process,
        places: list[LockPlace],
        waits: list[FutexWait],
        limits: list[Limitation],
    ) -> None:
        self._process = process
        self._views = process.views
        self._places = places
        self._waits = waits
        self._limits = limits
        self._threads = ThreadIds(process)

    def models(self) -> Iterator[Lock]:
        """Yield the locks: places first, then those that only their waiters name."""
        waiters: dict[int, list[FutexWait]] = {}
        for wait in self._waits:
            if wait.what in (MUTEX, LOW_LEVEL, RWLOCK, UNKNOWN):
                waiters.setdefault(wait.word, []).append(wait)
        for place in self._places:
            at = waiters.pop(place.address, [])
            lock = self._co_mutex(place) if place.coroutines else self._mutex(place, at)
            if lock is not None:
                yield lock
        yield from self._rwlocks(waiters)
        for word, at in sorted(waiters.items()):
            lock = self._by_waiters(word, at)
            if lock is not None:
                yield lock

    # Mutexes

    def _mutex(self, place: LockPlace, waits: list[FutexWait]) -> Lock | None:
        """Return a mutex; None if nobody holds it or waits for it, unless it is the BQL."""
        try:
            mutex = self._views.at(PthreadMutex, place.address)
            held, kind = bool(mutex.lock & _TID_MASK), mutex.kind
        except VringcoreError as error:
            if not waits and place.name != BQL:
                self._limits.append(Limitation(f"the lock {place.name}", str(error), error.hint))
                return None
            absent = absence_of(error)
            return self._model(place, MUTEX, absent, absent, waits)
        if not held and not waits and place.name != BQL:
            return None
        owner = self._owner(mutex.owner) if held else None
        locked_at = attempt(lambda: self._locked_at(place)) if held and place.debugged else None
        return self._model(place, _KINDS[kind & _KIND_MASK], owner, locked_at, waits)

    def _model(
        self,
        place: LockPlace,
        kind: str,
        owner: int | Absent | None,
        locked_at: str | Absent | None,
        waits: list[FutexWait],
    ) -> Lock:
        return Lock(
            address=Address(place.address),
            kind=kind,
            name=place.name,
            owner=owner,
            locked_at=locked_at,
            waiters=tuple(wait.lwp for wait in waits),
        )

    def _owner(self, number: int) -> int | Absent:
        if not number:
            why = "somebody was about to note that it holds the lock, or that it does no longer"
            return Absent("in-transit", None, why)
        return self._threads.lwp_of(number)

    def _locked_at(self, place: LockPlace) -> str | None:
        """Return ``file:line`` of who locked it, None where the build does not note that."""
        mutex = self._views.at(QemuMutex, place.address)
        if not mutex.file:
            return None
        return f"{self._views.string(mutex.file)}:{mutex.line}"

    def _by_waiters(self, word: int, waits: list[FutexWait]) -> Lock | None:
        """Return what a word belongs to that is waited on; None if it is no lock."""
        name, debugged = self._symbol(word)
        place = LockPlace(word, name, debugged=debugged)
        if any(wait.what == LOW_LEVEL for wait in waits):
            return self._model(place, LOW_LEVEL, _NO_OWNER, None, waits)
        if self._is_mutex(word):
            return self._mutex(place, waits)
        if any(wait.what == MUTEX for wait in waits):
            return self._model(place, LOW_LEVEL, _NO_OWNER, None, waits)
        return None

    def _is_mutex(self, address: int) -> bool:
        """Tell whether a mutex lies there: locked by a thread of the core, of a kind there is."""
        try:
            mutex = self._views.at(PthreadMutex, address)
            return 0 <= mutex.kind <= _KIND_BITS and (
                mutex.owner in self._threads if mutex.lock else mutex.owner == 0
            )
        except VringcoreError:
            return False

    def _symbol(self, address: int) -> tuple[str, bool]:
        """Return the variable that an address lies in, and whether it is a QemuMutex."""
        found = self._process.symbols.lookup(address)
        if found is None:
            return "", False
        name, offset = found
        variable = self._views.layouts.find_variable(name)
        definition = None
        if variable is not None and variable.type is not None and not offset:
            definition = attempt(lambda: self._views.layouts.resolve(variable.type))  # type: ignore[arg-type]
        is_qemus = getattr(definition, "name", None) in ("QemuMutex", "QemuRecMutex")
        return (f"{name}+{offset}" if offset else name), is_qemus

    # Reader-writer locks

    def _rwlocks(self, waiters: dict[int, list[FutexWait]]) -> Iterator[Lock]:
        """Yield the reader-writer locks that are waited for, and take their words away."""
        words = {word for word, waits in waiters.items() if waits[0].what == RWLOCK}
        locks: dict[int, list[FutexWait]] = {}
        for word in sorted(words):
            waits = waiters.pop(word)
            locks.setdefault(self._rwlock_of(word, waits, words), []).extend(waits)
        for address, waits in locks.items():
            owner = attempt(lambda at=address: self._writer(at))  # type: ignore[misc]
            place = LockPlace(address, self._symbol(address)[0])
            yield self._model(place, RWLOCK, owner, None, waits)

    def _rwlock_of(self, word: int, waits: list[FutexWait], words: set[int]) -> int:
        """Return the reader-writer lock with a word that is waited on.

        Readers wait for the writers' turn to end, the next writer for the readers' on the same
        word; other writers wait on the word behind it.
        """
        if all(wait.writes for wait in waits):
            other = word - _WRITERS_FUTEX
            writer = attempt(lambda: self._views.integer(other + _CUR_WRITER, 4))
            if other + _WRPHASE_FUTEX in words or (
                not isinstance(writer, Absent) and writer in self._threads
            ):
                return other
        return word - _WRPHASE_FUTEX

    def _writer(self, address: int) -> int | Absent | None:
        number = self._views.integer(address + _CUR_WRITER, 4)
        if number:
            return self._threads.lwp_of(number)
        readers = self._views.integer(address + _READERS, 4) >> _READER_SHIFT
        return _NO_OWNER if readers else None

    # CoMutexes

    def _co_mutex(self, place: LockPlace) -> Lock | None:
        """Return a CoMutex; None if nobody holds it or waits for it."""
        try:
            holder, waiting = co_mutex(self._views, place.address)
        except VringcoreError as error:
            self._limits.append(Limitation(f"the lock {place.name}", str(error), error.hint))
            return None
        if not holder and not waiting:
            return None
        return Lock(
            address=Address(place.address),
            kind=CO_MUTEX,
            name=place.name,
            owner=None,
            owner_coroutine=Address(holder) if holder else None,
            waiting_coroutines=tuple(map(Address, waiting)),
        )
