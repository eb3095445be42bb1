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
    :param taken: the loop has taken it from its list to run it (``bh_slice_list``)
    """

    address: Hex
    name: str | Absent | None
    callback: str | Absent | None
    opaque: Hex
    flags: tuple[str, ...]
    taken: bool = False


class Timer(msgspec.Struct, frozen=True):
    """An armed timer of an event loop (``QEMUTimer``).

    :param clock: ``realtime`` (the host's monotonic clock), ``virtual`` (stands still while the VM
        does), ``host`` (the host's time of day) or ``virtual-rt``
    :param expires_ns: when it is due, in nanoseconds of its clock
    """

    address: Hex
    clock: str
    expires_ns: int
    callback: str | Absent | None
    opaque: Hex


class EventLoop(msgspec.Struct, frozen=True):
    """An AioContext.

    Those called ``main`` and ``iohandler`` are both run by the main thread, whose sleep is glib's.

    :param name: ``main``, ``iohandler`` or the I/O thread's id; ``mon_iothread`` is the monitor's
    :param lwp: the thread that runs it, None where none could be joined
    :param waits_by: how it sleeps in ``aio_poll``: ``poll``, ``epoll``, ``io-uring``
        (``fdmon_ops``)
    :param polling: it busy-polls, notifications are switched off (``poll_started``)
    :param poll_max_ns: how long it may busy-poll, 0 for never
    :param notify_me: whether somebody asks to be woken: 0 for nobody; glib's loop adds 1, each
        ``aio_poll`` 2
    :param notified: a wake-up was sent to it and it has not taken note yet
    :param external_disabled: above 0: handlers of guests' kicks are held back (drained section);
        None where the build keeps no such count
    :param handlers: the latest first
    :param bottom_halves: those that are queued, the latest first
    :param timers: of the main loop, also those of ``main_loop_tlg``
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
