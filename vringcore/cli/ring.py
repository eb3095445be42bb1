"""``vringcore ring``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL

if TYPE_CHECKING:
    import argparse

    from vringcore.model.report import RingDocument

USAGE = "vringcore ring CORE --device DEVICE --queue N [options]"
DESCRIPTION = """\
What stands in one queue's ring, slot by slot?

First the pointers and what each means, then the descriptor chains in flight
or published and not yet taken, then the three parts of the ring as the guest
has them in its memory: the descriptor table, the available ring (heads
published by the driver) and the used ring (heads given back, with the bytes
written); or the one ring of descriptors if it is packed, each with its bits.
Slots at which a pointer stands are marked `<- last_avail_idx`.
Addresses are guest-physical. A chain's end says how its walk ended: complete,
or what is wrong with it.
"""
EPILOG = """\
--device and --queue can be left out where there is only one.

examples:
  vringcore ring core.20873 --device disk0 --queue 1
  vringcore ring core.20873 -d disk0 -q 1 -v        unused slots too
  vringcore ring core.20873 -d disk0 -q 1 --json | jq .chains
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)
    options.add_choice(parser, queue=True)


def run(arguments: argparse.Namespace) -> int:
    """Print the ring; return the exit code."""
    from vringcore.cli.output import write_json, write_page
    from vringcore.cli.selection import only_ring

    with options.open_core(arguments) as core:
        device, queue = only_ring(core, arguments.device, arguments.queue)
        document = core.ring(device, queue)
    if arguments.json:
        write_json(document)
    else:
        from vringcore.report.ring import print_ring

        write_page(arguments, lambda page: print_ring(page, document, detailed=arguments.verbose))
    return exit_code(document)


def exit_code(document: RingDocument) -> int:
    """Return 4 where there is a ring and no part of it could be read; no ring is an answer."""
    from vringcore.model.rings import PackedRing, SplitRing
    from vringcore.model.values import Absent

    parts: tuple[object, ...]
    if isinstance(document.packed, PackedRing):
        parts = (document.packed.descriptors,)
    elif isinstance(document.split, SplitRing):
        ring = document.split
        parts = (ring.descriptors, ring.available, ring.used)
    else:
        return EXIT_OK if document.queue.ring_state == "not-set-up" else EXIT_PARTIAL
    return EXIT_PARTIAL if all(isinstance(part, Absent) for part in parts) else EXIT_OK
