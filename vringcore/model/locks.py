"""Locks: who holds each, and who waits for it."""

from __future__ import annotations

import msgspec

from vringcore.model.values import Absent, Hex


class Lock(msgspec.Struct, frozen=True):
    """A lock that is held, or waited for; the BQL in any case.

    Threads in ``pthread_cond_wait()`` and the like wait for a signal, not for an owner: they are in
    no list here.

    :param address: of the ``pthread_mutex_t``, of the CoMutex, of the word that is waited on
    :param kind: ``mutex``, ``recursive-mutex``, ``error-checking-mutex``, ``co-mutex``,
        ``reader-writer-lock``, ``low-level-lock`` (one of the C library's own, such as malloc's)
    :param name: ``BQL``, ``AioContext lock of iothread1``, ``BlockDriverState.reqs_lock of node
        disk0``, the variable that it lies in; "" for one that is known by its waiters alone
    :param owner: the thread that holds it, as the core numbers threads; None if nobody does, Absent
        if that cannot be told. Of a reader-writer lock, the writer; of a CoMutex always None
    :param owner_coroutine: of a CoMutex: the coroutine that holds it
    :param locked_at: ``file:line`` of the locking call, where the build notes it
    :param waiters: threads that wait for it
    :param waiting_coroutines: coroutines that wait for it, the first in line first
    """

    address: Hex
    kind: str
    name: str
    owner: int | Absent | None
    owner_coroutine: Hex | None = None
    locked_at: str | Absent | None = None
    waiters: tuple[int, ...] = ()
    waiting_coroutines: tuple[Hex, ...] = ()
