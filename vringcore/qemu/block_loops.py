"""The event loops that the block layer can use: the main loop's, I/O threads', and its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.qemu.block_state_structs import BlockBackendState
from vringcore.qemu.device_structs import IOThread
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

MAX_LOOPS = 256
"""A QEMU has one for each of its I/O threads, and two for the main loop."""

MAIN_LOOP = ("qemu_aio_context", "iohandler_ctx")
"""The main thread's AioContexts (util/main-loop.c)."""


def event_loop_addresses(process: Process) -> list[int]:
    """Return the addresses of AioContexts: the main loop's two, I/O threads', then others.

    What cannot be read is left out: whoever needs that loop reads what leads to it, and says so.
    """
    found: dict[int, None] = {}
    for walk in (_main(process), _io_threads(process), _of_block_layer(process)):
        found.update(dict.fromkeys(collect(walk)[0]))
    found.pop(0, None)
    return list(found)[:MAX_LOOPS]


def _main(process: Process) -> Iterator[int]:
    views = process.views
    for name in MAIN_LOOP:
        place = views.find_address_of(name, "util/main-loop.c")
        if place is not None:
            yield int(views.pointer(place))


def _io_threads(process: Process) -> Iterator[int]:
    for thread in process.objects.instances("iothread", "/objects"):
        yield int(process.views.at(IOThread, thread).ctx)


def _of_block_layer(process: Process) -> Iterator[int]:
    views, layer = process.views, process.block
    for blk in layer.backends():
        yield int(views.at(BlockBackendState, blk.address_).ctx)
    for node in layer.nodes():
        yield int(node.view.aio_context)
