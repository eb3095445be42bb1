"""Armed timers of event loops (util/qemu-timer.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.loops import Timer
from vringcore.model.values import Address
from vringcore.qemu.loop_structs import QEMUTimer, QEMUTimerList
from vringcore.qemu.loops_words import function_name
from vringcore.view.lists import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

CLOCKS = ("realtime", "virtual", "host", "virtual-rt")
"""``enum QEMUClockType`` in its order. ``virtual`` stands still while the VM does."""

MAX_TIMERS = 10_000


def armed_timers(process: Process, lists: int) -> Iterator[Timer]:
    """Yield the armed timers of a group of lists, by clock, each list's earliest first.

    :param lists: address of an array of pointers to ``QEMUTimerList``, one for each clock
    :raises LayoutMissingError, CorruptDataError, LimitError, MemoryFault: where it ends early
    """
    views = process.views
    for number, clock in enumerate(CLOCKS):
        place = views.pointer(lists + number * views.pointer_size)
        if not place:
            continue  # of a loop that is being made
        first = views.at(QEMUTimerList, place).active_timers
        for address in walk(
            first,
            lambda timer: views.at(QEMUTimer, timer).next_,
            what=f"of armed timers of the clock {clock}",
            limit=MAX_TIMERS,
        ):
            timer = views.at(QEMUTimer, address)
            yield Timer(
                address=Address(address),
                clock=clock,
                expires_ns=timer.expire_time,
                callback=function_name(process, timer.cb),
                opaque=Address(timer.opaque),
            )
