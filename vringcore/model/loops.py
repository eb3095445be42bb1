"""Event loops: what they watch, what they have yet to run, and which thread runs them."""

from __future__ import annotations

import msgspec

from vringcore.model.values import Absent, Hex


class QueueNotifier(msgspec.Struct, frozen=True):
    """Which virtqueue a file descriptor belongs to.

    :param side: ``host-notifier`` (the driver's kick, an ioeventfd) or ``guest-notifier`` (the
        interrupt, an irqfd)
    """

    device: int
    queue: int
    side: str


class Handler(msgspec.Struct, frozen=True):
    """A file descriptor that an event loop watches (``AioHandler``).

    :param events: what it is watched for, of poll(2) by name: ``in``, ``out`` …; empty: for
        nothing at the moment
    :param live: it is called when an event comes: neither deleted, nor without events, nor held
        back by a drained section (``is_external`` and ``external_disable_cnt``)
    :param polled: it is in the list of those that busy polling asks (``poll_aio_handlers``)
    :param owner: what the descriptor is, in words; "" if that is not known
    :param queue: the virtqueue it is the notifier of
    """

    address: Hex
    fd: int
    events: tuple[str, ...]
    read: str | Absent | None
    write: str | Absent | None
    poll: str | Absent | None
    opaque: Hex
    live: bool
    polled: bool | Absent
    external: bool | None = None
    owner: str = ""
    queue: QueueNotifier | None = None


class BottomHalf(msgspec.Struct, frozen=True):
    """A callback that an event loop knows of (``QEMUBH``).

    :param name: QEMU's name of it, newer builds alone have one
    :param flags: ``pending``, ``scheduled``, ``deleted``, ``oneshot``, ``idle``
    """

    address: Hex
    name: str | Absent | None
    callback: str | Absent | None
    opaque: Hex
    flags: tuple[str, ...]


class Timer(msgspec.Struct, frozen=True):
    """An armed timer of an event loop (``QEMUTimer``), in nanoseconds of its clock."""

    address: Hex
    clock: str
    expires_ns: int
    callback: str | Absent | None
    opaque: Hex


class EventLoop(msgspec.Struct, frozen=True):
    """An AioContext.

    :param name: ``main``, ``iohandler`` or the I/O thread's id
    :param lwp: the thread that runs it, None where none could be joined
    :param waits_by: how it sleeps: ``poll``, ``epoll``, ``io-uring`` (``fdmon_ops``)
    :param polling: it busy-polls, notifications are switched off (``poll_started``)
    :param notify_me: whether it asked to be woken; an even number means it did not
    :param notified: a wake-up was sent to it
    :param external_disabled: above 0: handlers of guests' kicks are held back (drained section);
        None where the build keeps no such count
    :param bottom_halves: all of ``bh_list``, in its order
    :param scheduled: coroutines that it is to enter (``scheduled_coroutines``)
    """

    address: Hex
    name: str | Absent
    lwp: int | None
    waits_by: str | Absent
    polling: bool | Absent
    poll_max_ns: int | Absent
    notify_me: int | Absent
    notified: bool | Absent
    external_disabled: int | Absent | None
    handlers: tuple[Handler, ...] | Absent
    bottom_halves: tuple[BottomHalf, ...] | Absent
    timers: tuple[Timer, ...] | Absent
    scheduled: tuple[Hex, ...] | Absent
