"""``vringcore block``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL
from vringcore.model.values import Absent

if TYPE_CHECKING:
    import argparse

    from vringcore.model.report import Report

USAGE = "vringcore block CORE [options]"
DESCRIPTION = """\
Where in QEMU's block layer are requests, and what holds them there?

  back-ends   what a device gives its requests to: those in flight, those that
              wait for a drained section to end (queued), those that failed
              and wait for the VM to go on (parked), and what an error does
              (rerror, werror)
  nodes       the block graph: the requests that each node has under way
              (tracked), flushes that wait for one before them, who uses the
              node and what it works on. `drained` above 0: inside a drained
              section, as of a stopping VM. `in flight` may count a request
              more than once
  engines     what event loops have given the kernel (linux-aio, io-uring) or
              worker threads (thread-pool), and what they have not yet
  jobs        backups, mirrors, commits, streams
  NBD clients, and throttle groups with their limits and timers

Times are those of QEMU_CLOCK_REALTIME, the host's monotonic clock. `-v` adds
each tracked request, NBD slot and piece of work of a thread pool;
`vringcore requests` tells which guest request each belongs to.
"""
EPILOG = """\
examples:
  vringcore block core.20873
  vringcore block core.20873 -v
  vringcore block core.20873 --json | jq '.block.nodes[] | {name, in_flight}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the block layer; return the exit code."""
    from vringcore.cli.output import write_json, write_page

    with options.open_core(arguments) as core:
        report = core.report({"block"})
    if arguments.json:
        write_json(report)
    else:
        from vringcore.report.block import print_block

        write_page(arguments, lambda page: print_block(page, report, detailed=arguments.verbose))
    return _exit_code(report)


def _exit_code(report: Report) -> int:
    """Return 4 where neither back-ends nor nodes could be read."""
    block = report.block
    if block is UNSET or (isinstance(block.backends, Absent) and isinstance(block.nodes, Absent)):
        return EXIT_PARTIAL
    return EXIT_OK
