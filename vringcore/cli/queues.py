"""``vringcore queues``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options

if TYPE_CHECKING:
    import argparse

USAGE = "vringcore queues CORE [options]"
DESCRIPTION = """\
Did the device see the requests, did it complete them, did the driver see the
completions? One line per virtqueue, its columns in the order in which a
request passes them:

  avail.idx        published by the driver (in guest memory)
  last_avail_idx   taken by the device (struct VirtQueue)
  used_idx         given back by the device
  used_event       the driver wants an interrupt once used.idx passes this
  unseen           avail.idx - last_avail_idx: the device has not seen these
  inuse            taken and not given back: requests inside QEMU
  past_used_event  used.idx - used_event: completions the driver may not have
                   seen; a hint, no proof

Indices are 16-bit and wrap; the differences are taken modulo 65536. A queue
marked > has requests outstanding. `absent[1]` is a value that could not be
read: the footnote says why. With vhost or vhost-user another process moves
the indices, and QEMU's copies are stale; a note says so.
"""
EPILOG = """\
examples:
  vringcore queues core.20873
  vringcore queues core.20873 --device disk0 -v     every member of VirtQueue
  vringcore queues core.20873 --json | jq '.devices[].queues[].counts'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)
    options.add_choice(parser, queue=True)


def run(arguments: argparse.Namespace) -> int:
    """Print the queues; return the exit code."""
    from vringcore.cli.output import write_json, write_page
    from vringcore.cli.selection import exit_code, select

    parts = {"queues"}
    if arguments.json or arguments.verbose:
        parts.add("queue-fields")
    with options.open_core(arguments) as core:
        report = select(core, parts, arguments.device, arguments.queue)
    if arguments.json:
        write_json(report)
    else:
        from vringcore.report.queues import print_queues

        write_page(arguments, lambda page: print_queues(page, report, detailed=arguments.verbose))
    return exit_code(report, queues=True)
