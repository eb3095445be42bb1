"""``vringcore precheck``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    from vringcore.model.precheck import PrecheckDocument

USAGE = "vringcore precheck CORE | --pid PID [options]"
DESCRIPTION = """\
What can this core answer, what not, and why? And what would a core of this
process answer, before it is taken?

Tells whether it is a core of a QEMU, who wrote it, whether it is whole,
whether guest RAM is in it, which of its files are here, missing or of another
build, whether QEMU's types are described anywhere, and what to set before the
next core is taken. It takes a moment and never needs debug information.

With --pid it reads /proc/PID alone, as the process's own user, and stops
nothing: coredump_filter, limits, core_pattern, what a core would have and
where it would go, and threads in uninterruptible sleep, on which gcore would
wait for ever.

Exit codes: 0 every question can be answered, 4 some or all cannot.
"""
EPILOG = """\
examples:
  vringcore precheck core.20873
  vringcore precheck core.20873 -v --json | jq .next_capture
  vringcore precheck --pid $(pidof qemu-system-x86_64)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser, optional=True)
    parser.add_argument_group("a process instead").add_argument(
        "--pid", metavar="PID", type=_pid, help="process id of a running QEMU (Linux)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what can be answered; return the exit code."""
    from vringcore.cli.output import write_json, write_page

    document = _asked(arguments)
    if arguments.json:
        write_json(document)
    else:
        from vringcore.report.precheck import print_precheck

        write_page(
            arguments, lambda page: print_precheck(page, document, detailed=arguments.verbose)
        )
    whole = all(each.answer == "yes" for each in document.answers)
    return EXIT_OK if whole else EXIT_PARTIAL


def _asked(arguments: argparse.Namespace) -> PrecheckDocument:
    from vringcore.options import Options

    if (arguments.core is None) == (arguments.pid is None):
        raise UsageError(
            "neither a core nor a process was given"
            if arguments.core is None
            else "both a core and a process were given",
            expected="CORE or --pid PID",
            hint="see `vringcore precheck --help`",
        )
    chosen = Options(**options.core_options(arguments))
    if arguments.pid is not None:
        from vringcore.slim.precheck import precheck_process

        return precheck_process(arguments.pid, chosen)
    from vringcore.model.report import Tool
    from vringcore.qemu.precheck import precheck_core
    from vringcore.version import VERSION

    return precheck_core(arguments.core, chosen, Tool("vringcore", VERSION))


def _pid(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text!r} is no process id")
    return int(text)
