"""``vringcore requests``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options

if TYPE_CHECKING:
    import argparse

MAX_PAYLOAD = 1 << 20
"""Bytes of each request's data that may be asked for."""

USAGE = "vringcore requests CORE [options]"
DESCRIPTION = """\
Which requests were in flight, and where does each one wait?

One line per request that the device took and has not given back, identified
from QEMU's own structures (never guessed from the ring): head (its first
descriptor), operation, sector (512 bytes each), length, age (`>=` where only
a lower bound is known), and the places it waits in from the outermost to the
innermost: tracked-request, throttle, drain-queue, retry-list, nbd, linux-aio,
io-uring, thread-pool. Requests of other devices than disks show what their
headers say: a SCSI command with its unit and block, a packet's length, a GPU
command with its resource. What is in use and could not be identified is counted
below the table. `-v` adds headers, buffers, descriptors and addresses.
`--payload` adds the beginning of each request's data, which is the guest's own.
"""
EPILOG = """\
examples:
  vringcore requests core.20873
  vringcore requests core.20873 --device disk0 --queue 1 -v
  vringcore requests core.20873 --payload 64
  vringcore requests core.20873 --json | jq '.devices[].queues[].in_flight[]'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)
    options.add_choice(parser, queue=True)
    parser.add_argument(
        "--payload",
        type=_count,
        default=0,
        metavar="BYTES",
        help="show so many bytes of each request's data, in hexadecimal: guest data",
    )


def _count(text: str) -> int:
    import argparse

    try:
        count = int(text, 0)
    except ValueError:
        count = -1
    if not 0 <= count <= MAX_PAYLOAD:
        raise argparse.ArgumentTypeError(f"a number from 0 to {MAX_PAYLOAD} is expected")
    return count


def run(arguments: argparse.Namespace) -> int:
    """Print the requests; return the exit code."""
    from vringcore.cli.output import write_json, write_page
    from vringcore.cli.selection import exit_code, select

    parts = {"devices", "queues", "requests"}
    with options.open_core(arguments) as core:
        report = select(core, parts, arguments.device, arguments.queue)
        if arguments.payload:
            report = core.with_payload(report, arguments.payload)
    if arguments.json:
        write_json(report)
    else:
        from vringcore.report.requests import print_requests

        write_page(arguments, lambda page: print_requests(page, report, detailed=arguments.verbose))
    return exit_code(report, queues=True)
