"""``vringcore slim``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK

if TYPE_CHECKING:
    import argparse

USAGE = "vringcore slim CORE -o OUT [options]"
DESCRIPTION = """\
How can a core be kept, mailed or shown, when it is somebody's memory?

Writes a small ELF core with what the other verbs read of CORE, and gives the
same answers from it: QEMU's structures, rings, descriptor tables, request
headers, registers, stacks from the stack pointer up; some hundred kilobytes.
It brings along what the debug information answered, so that it opens on a
machine that has neither the QEMU binary nor its debug information; readelf and
gdb open it too.

What it does not hold: the guest's data, vector registers, the environment,
secrets of the command line. What stacks may still hold is in docs/slim.md.
"""
EPILOG = """\
examples:
  vringcore slim core.20873 -o core.20873.slim
  vringcore slim core.20873 -o small.zst --redact-stacks
  vringcore slim core.20873 -o small --include '*current_machine' \\
      --include 0x55d0c2a4f000+4096
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)
    add_slim_options(parser)


def add_slim_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add what decides of the small core itself."""
    group = parser.add_argument_group("the small core")
    group.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=required,
        help="where to write; packed if it ends in .zst; it appears when it is whole",
    )
    group.add_argument(
        "--include",
        metavar="WHAT",
        action="append",
        default=[],
        help="keep this too (repeatable): START-END, START+SIZE, or a C expression; of a pointer"
        " what it points to",
    )
    group.add_argument(
        "--redact-stacks",
        action="store_true",
        help="of stacks keep pointers, small numbers, and what the analysis reads",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the small core; return the exit code."""
    from vringcore.cli.output import write_json, write_page
    from vringcore.options import Options
    from vringcore.slim.slim import slim_core

    document = slim_core(
        arguments.core,
        arguments.output,
        options=Options(**options.core_options(arguments)),
        store=options.store_of(arguments),
        wanted=arguments.include,
        redact_stacks=arguments.redact_stacks,
    )
    if arguments.json:
        write_json(document)
    else:
        from vringcore.report.slim import print_slim

        write_page(arguments, lambda page: print_slim(page, document))
    return EXIT_OK
