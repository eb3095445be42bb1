"""Locks: who holds each, and who waits for it."""

from __future__ import annotations

import msgspec

from vringcore.model.values import Absent, Hex


class Lock(msgspec.Struct, frozen=True):
    """A lock that is held, or waited for.

    :param address: of the ``pthread_mutex_t``, or of the CoMutex
    :param kind: ``mutex``, ``recursive-mutex``, ``co-mutex``
    :param name: ``BQL``, ``AioContext lock of iothread1``, the symbol it lies in, or "" for a lock
        that is known by its waiters alone
    :param owner: the thread that holds it; None if nobody does, Absent if that cannot be told
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
