"""``vringcore compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL, EXIT_STUCK, UsageError

if TYPE_CHECKING:
    import argparse

USAGE = "vringcore compare FIRST SECOND [options]"
DESCRIPTION = """\
Is it stuck, or was it only slow when the core was taken?

Two cores of one VM, taken some seconds apart, the earlier first: by how much
each ring's indices moved, which requests are in flight in both, which threads
stand where they stood. A queue whose requests last while no completion comes is
stuck; one where others come back is slow.

moved     steps of an index from the first core to the second, modulo 2^16
lasting   requests in flight in both: the same head, structure, content and time
          of beginning
gone, new in flight in the first alone, in the second alone

The time between them is known if `vringcore capture` took them, or if their
names tell.
"""
EPILOG = """\
exit codes: 0 nothing is stuck, 5 at least one queue is, 4 it cannot be told,
2 they are not of one process, or in the wrong order

examples:
  vringcore capture PID -o one; sleep 40; vringcore capture PID -o two
  vringcore compare one two
  vringcore compare one two --json | jq '.queues[] | {device_id, queue, state}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    cores = parser.add_argument_group("the cores")
    cores.add_argument("first", metavar="FIRST", help="the earlier core")
    cores.add_argument("second", metavar="SECOND", help="the later core of the same process")
    for which in ("first", "second"):
        cores.add_argument(
            f"--{which}-ram-file",
            metavar="PATH",
            action="append",
            default=[],
            help=f"guest RAM that the {which} core left out, as its file was then; or BLOCK=PATH"
            " (repeatable)",
        )
    options.add_file_options(parser)
    limits = parser.add_argument_group("limits")
    limits.add_argument("--tmpdir", metavar="DIR", help="where compressed cores are unpacked")
    limits.add_argument(
        "--max-unpacked",
        metavar="BYTES",
        type=options.byte_count,
        help="refuse to unpack more than this, such as 20G",
    )
    options.add_output_options(parser)


def _same_file(first: str, second: str) -> bool:
    """Return whether both name one file; a member of an archive is known by its name alone."""
    try:
        return Path(first).samefile(second)
    except (OSError, ValueError):
        return first == second


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison; return the exit code."""
    if _same_file(arguments.first, arguments.second):
        raise UsageError(
            "one core is given twice, in which nothing can have moved",
            where=arguments.second,
            expected="two cores of one VM, taken one after the other",
        )
    from vringcore.api import open_core
    from vringcore.cli.output import write_json, write_page
    from vringcore.layout.store import LayoutStore
    from vringcore.scan.compare import compare

    store = options.store_of(arguments) or LayoutStore.default()
    how = {
        **options.file_options(arguments),
        "tmpdir": arguments.tmpdir,
        "max_unpacked": arguments.max_unpacked,
        "progress": options.progress_line(),
        "store": store,
    }
    ram = tuple(arguments.first_ram_file), tuple(arguments.second_ram_file)
    with (
        open_core(arguments.first, ram_files=ram[0], **how) as first,
        open_core(arguments.second, ram_files=ram[1], **how) as second,
    ):
        document = compare(first, second)
    if arguments.json:
        write_json(document)
    else:
        from vringcore.report.compare import print_compare

        write_page(
            arguments, lambda page: print_compare(page, document, detailed=arguments.verbose)
        )
    return {"stuck": EXIT_STUCK, "unknown": EXIT_PARTIAL}.get(document.state, EXIT_OK)
