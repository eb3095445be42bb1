"""Threads by the number that they had themselves, which is what QEMU and the C library note.

In a container that is another number than the core's writer saw, which the core has. glibc keeps it
in ``struct pthread``, which lies at the thread pointer (x86-64) or ends there (aarch64).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.model.values import Absent
from vringcore.qemu.roles import iothreads
from vringcore.qemu.thread_structs import CPUS, CPUState, IOThread, QemuThread
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

_TID = {"x86-64": 0x2D0, "aarch64": 0xD0}
"""``offsetof(struct pthread, tid)``: behind the header and a list's entry (nptl/descr.h).

The header is a tcbhead_t of 704 bytes on x86-64, 24 pointers on aarch64. The C library's debugger
interface gives the same (``_thread_db_pthread_tid``).
"""

MAX_TID = 1 << 22
"""PID_MAX_LIMIT (include/linux/threads.h)."""

MAX_DESCRIPTOR = 1 << 13
"""Bytes that a ``struct pthread`` may have; glibc's have some 2,000."""


class ThreadIds:
    """Joins threads' own numbers with the core's."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def lwp_of(self, number: int) -> int | Absent:
        """Return the core's number of the thread that called itself ``number``."""
        found = self._known.get(number)
        if found is not None:
            return found
        same = all(number == lwp for number, lwp in self._known.items())
        if same and number in self._untold:
            return number
        return Absent(
            "not-found",
            None,
            f"no thread of the core is known to have had the number {number}: it has ended, or "
            "what tells its number is not in the core",
        )

    def __contains__(self, number: int) -> bool:
        """Tell whether a thread had that number."""
        return not isinstance(self.lwp_of(number), Absent)

    def number_of(self, pthread: int) -> int | None:
        """Return a thread's own number by its ``pthread_t``, None if nothing tells it."""
        at = _TID.get(self._process.core.machine)
        if at is None or not pthread:
            return None
        try:
            number = self._process.views.integer(pthread + at, 4, signed=True)
        except VringcoreError:
            return None
        return number if 0 < number <= MAX_TID else None

    @cached_property
    def _known(self) -> dict[int, int]:
        """The core's numbers by the threads' own, of those whose own is in the core."""
        at = _TID.get(self._process.core.machine)
        found: dict[int, int] = {}
        if at is None:
            return found
        views, size = self._process.views, self._descriptor
        for thread in self._process.core.threads:
            if not thread.fs_base or size is None:
                continue
            try:
                number = views.integer(thread.fs_base - size + at, 4, signed=True)
            except VringcoreError:
                continue
            if 0 < number <= MAX_TID:
                found[number] = thread.lwp
        return found

    @cached_property
    def _untold(self) -> frozenset[int]:
        """The core's numbers of the threads whose own is not known."""
        return frozenset(each.lwp for each in self._process.core.threads) - set(
            self._known.values()
        )

    @cached_property
    def _descriptor(self) -> int | None:
        """How far below the thread pointer the ``struct pthread`` begins.

        On aarch64 that is its size, which each release of glibc may change: the distance from a
        ``pthread_t``, its address, that QEMU has to the next thread pointer, where QEMU's own
        number of that thread is the one there.
        """
        process = self._process
        if process.core.machine == "x86-64":
            return 0
        pointers = [each.fs_base for each in process.core.threads if each.fs_base]
        for pthread, number in collect(self._of_qemu())[0]:
            sizes = [p - pthread for p in pointers if 0 < p - pthread <= MAX_DESCRIPTOR]
            try:
                seen = process.views.integer(pthread + _TID[process.core.machine], 4)
            except VringcoreError:
                continue
            if sizes and seen == number:
                return min(sizes)
        return None

    def _of_qemu(self) -> Iterator[tuple[int, int]]:
        """Yield ``pthread_t`` and number of the threads of which QEMU keeps both."""
        process, views = self._process, self._process.views
        for _name, address in collect(iothreads(views, process.objects))[0]:
            thread = views.at(IOThread, address)
            yield thread.thread, thread.thread_id
        places = (views.find_address_of(name, unit) for name, unit in CPUS.items())
        head = next((place for place in places if place is not None), None)
        for cpu in () if head is None else views.elements(head, CPUState, "node"):
            yield views.at(QemuThread, cpu.thread).thread, cpu.thread_id
