"""``vringcore report``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    import argparse

STDOUT = "-"

USAGE = "vringcore report CORE -o PAGE.html [options]"
DESCRIPTION = """\
How can all that is known of a core be shown to somebody who has not got it?

Writes one HTML page: the verdict, its evidence, what would refute it, what to
do; who waits for whom as a drawing; every ring as a ring, with its indices and
the requests in flight; requests, devices, queues, backtraces, block layer,
event loops, locks; what was checked, and what could not be read.

The page needs nothing else: it loads no file, asks no network, runs no script.
It can be mailed, printed, and read on a phone. It holds no data of the guest,
and secrets of the command line are left out; names of hosts, files and devices
are in it. Needs jinja2: pip install 'vringcore[html]'.
"""
EPILOG = """\
examples:
  vringcore report core.20873 -o core.20873.html
  vringcore report core.20873 -o page.html --json | jq .verdict.summary
  vringcore report core.20873 -o - | ssh desk 'cat > page.html'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument_group("the page").add_argument(
        "-o",
        "--output",
        metavar="PAGE",
        required=True,
        help="where to write it; it appears when it is whole; - for standard output",
    )
    options.add_core_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the page; return the exit code."""
    from vringcore.cli.output import write_bytes, write_json, write_text

    to_stdout = arguments.output == STDOUT
    if to_stdout and arguments.json:
        raise UsageError("standard output cannot hold the page and JSON", hint="give -o a file")
    with options.open_core(arguments) as core:
        page = core.report_html().encode()
        report = core.why() if arguments.json else None
    if to_stdout:
        write_bytes(page)
        return EXIT_OK
    _write(arguments, page)
    if report is not None:
        write_json(report)
    else:
        write_text(f"{arguments.output}: {len(page)} bytes")
    return EXIT_OK


def _write(arguments: argparse.Namespace, page: bytes) -> None:
    from vringcore.slim.output import whole_file

    with whole_file(arguments.output, "the page", sources=options.sources(arguments)) as file:
        file.write(page)
