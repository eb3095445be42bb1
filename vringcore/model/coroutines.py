"""Coroutines: what each one does, where it sleeps, and what it waits for."""

from __future__ import annotations

import msgspec

from vringcore.model.requests import Waiting
from vringcore.model.threads import Frame
from vringcore.model.values import Absent, Hex


class Coroutine(msgspec.Struct, frozen=True):
    """One coroutine that could be reached (``struct Coroutine``).

    :param address: of its Coroutine
    :param entry: the function that it began with
    :param state: ``suspended`` (its frames are where it sleeps), ``running`` (a thread is in it:
        its innermost frames are the thread's), ``calling`` (it entered another coroutine and goes
        on when that yields; its frames are where it did) or ``not-started``
    :param event_loop: address of the AioContext that it last ran in, None if it is in none
    :param found_by: the structures that led to it: ``tracked-request``, ``throttle``,
        ``drain-queue``, ``co-queue``, ``co-mutex``, ``scheduled``, ``nbd``, ``io-channel``,
        ``thread-pool``, ``job``, ``monitor``, ``thread``, ``caller``, ``search`` (nothing but its
        stack led to it) …
    :param caller: the coroutine that entered it and waits for it to yield, None for none
    :param waits_in: where it waits, from the outermost place to the innermost that was found
    :param locks_held: CoMutexes that it holds (``Coroutine.locks_held``)
    :param frames: innermost first, without the switch itself; empty if it is running
    :param frames_end: as of a thread's frames; ``running`` if they are the thread's
    :param lwp: the thread that is in it, or in one that it entered
    """

    address: Hex
    entry: str | Absent | None
    state: str
    event_loop: Hex | Absent | None
    found_by: tuple[str, ...]
    caller: Hex | Absent | None
    waits_in: tuple[Waiting, ...]
    locks_held: int | Absent
    frames: tuple[Frame, ...]
    frames_end: str
    frames_end_detail: str = ""
    lwp: int | None = None
