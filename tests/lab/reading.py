"""Reads cores for the tests of damage and of files: whole reports, and which memory they read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import vringcore
from tests.lab.cases import CoreCase, iter_cores
from tests.lab.partial import plain
from vringcore.layout.store import LayoutStore
from vringcore.layout.types import Record
from vringcore.memory.trace import TracingSpace

PAGE = 4096


class Reader:
    """Reads cores of one executable; what is known of the build is kept in memory only."""

    def __init__(self, executable: Path) -> None:
        self.executable = str(executable)
        self.store = LayoutStore()

    def open(self, path: str | Path) -> vringcore.Core:
        """Open a core."""
        return vringcore.open_core(str(path), executable=self.executable, store=self.store)

    def report(self, path: str | Path) -> Any:
        """Return the whole report of a core."""
        with self.open(path) as core:
            return plain(core.report())

    def rings(self, path: str | Path) -> dict[tuple[str, int], Any]:
        """Return the ring document of every queue by the device's address and the queue's index."""
        with self.open(path) as core:
            return {
                (f"{int(device.address):#x}", queue.index): plain(
                    core.ring(str(device.index), queue.index)
                )
                for device in core.virtio_devices()
                if isinstance(device.queues, tuple)
                for queue in device.queues
            }

    def touched(self, path: str | Path) -> list[tuple[int, int]]:
        """Return the addresses that the whole report of a core reads, of those in the core."""
        with self.open(path) as core:
            process = core._process
            tracing = TracingSpace(process.views.space)
            process.views.space = tracing
            core.report()
            return [
                (start, end)
                for start, end in tracing.touched()
                if process.core.memory.file_offset_of(start) is not None
                and process.core.memory.file_offset_of(end - 1) is not None
            ]

    def offset(self, path: str | Path, c_type: str, member: str) -> int:
        """Return where a member lies in a C type of the core's program."""
        with self.open(path) as core:
            layouts = core._process.views.layouts
            record = layouts.definition(c_type)
            assert isinstance(record, Record)
            found = layouts.member(record, member)
            assert found is not None
            return int(found[0])

    def variable(self, path: str | Path, name: str) -> int:
        """Return the address of a variable of the program."""
        with self.open(path) as core:
            return int(core._process.views.address_of(name))


def find_core(name: str) -> CoreCase | None:
    """Return the core of a name (VERSION/SCENARIO/KIND), None if the lab has not made it."""
    return next((core for core in iter_cores() if core.name == name), None)


def pages(extents: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield each page that extents lie in, once, as (start, end)."""
    last = -1
    for start, end in extents:
        for number in range(max(last + 1, start // PAGE), (end - 1) // PAGE + 1):
            yield number * PAGE, (number + 1) * PAGE
            last = number
