"""``vringcore groups``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK

if TYPE_CHECKING:
    import argparse

USAGE = "vringcore groups ROWS [options]"
DESCRIPTION = """\
How many different things are wrong with all these VMs, and which are the same?

Reads the rows that `vringcore scan -o ROWS` wrote, also while it still writes,
and puts together the cores with one signature: the codes of what is stuck or
faulty, the kinds of devices, and the functions in which threads wait, without
addresses, names of VMs, or what differs between builds of QEMU.

group       its number, the gravest and largest first
cores       how many have this signature
VMs         of how many VMs, by UUID or name
builds      and of how many builds of QEMU
first seen  when the earliest was captured, else modified (UTC); last seen
what        the code that decides; `vringcore why --explain CODE` explains it
"""
EPILOG = """\
examples:
  vringcore groups rows.jsonl
  vringcore groups rows.jsonl -v            healthy cores, too
  vringcore groups rows.jsonl --json | jq '.groups[] | {count, signature}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument_group("the rows").add_argument(
        "rows", metavar="ROWS", help="a file by `vringcore scan -o`"
    )
    options.add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the groups; return the exit code."""
    from vringcore.cli.output import write_json, write_page
    from vringcore.scan.groups import groups_of
    from vringcore.scan.journal import read_lines, row_of

    path = arguments.rows
    lines, unfinished = read_lines(path)
    document = groups_of((row_of(line, path) for line in lines), path, unfinished)
    if arguments.json:
        write_json(document)
    else:
        from vringcore.report.groups import print_groups

        write_page(arguments, lambda page: print_groups(page, document, detailed=arguments.verbose))
    return EXIT_OK
