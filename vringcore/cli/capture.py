"""``vringcore capture``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.cli.slim import add_slim_options
from vringcore.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from vringcore.model.slim import SlimDocument

USAGE = "vringcore capture PID -o OUT [options]"
DESCRIPTION = """\
How can a core be taken of a QEMU that hangs, when gcore hangs on it too?

Writes the small core that `vringcore slim` writes, straight from the running
process: some hundred kilobytes read through /proc, in a second, whatever the
size of the VM. Nothing is stopped and nothing is changed. Threads that sleep
in the kernel and cannot be stopped, on which gcore waits for ever, are no
hindrance: their state, system call and kernel stack go into the core.

The process runs on while it is read, so a structure may change meanwhile: what
was read is read again at the end, and the core tells what had moved. --stop
stops the threads for a moment, for their registers and a memory that stands
still; they run on after at most that time, whatever happens.

Needs to be root, or the user of the process where ptrace of one's own
processes is allowed; kernel stacks need root.
"""
EPILOG = """\
examples:
  vringcore capture $(pidof qemu-system-x86_64) -o vm.core
  vringcore requests vm.core
  vringcore capture 20873 --plan                 how much it would take
  vringcore capture 20873 -o vm.core --stop 0.5  with all registers
"""

DEFAULT_STOP = 1.0
MAX_STOP = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    group = parser.add_argument_group("the process")
    group.add_argument("pid", metavar="PID", type=_pid, help="process id of a running QEMU")
    group.add_argument(
        "--stop",
        metavar="SECONDS",
        type=_seconds,
        nargs="?",
        const=DEFAULT_STOP,
        help="stop its threads while it is read, for no longer than this (1 if not given)",
    )
    group.add_argument(
        "--plan", action="store_true", help="read it and tell what would be written; write nothing"
    )
    add_slim_options(parser, required=False)
    options.add_file_options(parser)
    options.add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the small core; return the exit code."""
    from vringcore.cli.output import write_json, write_page
    from vringcore.options import Options
    from vringcore.slim.capture import capture_process

    if (arguments.output is None) != arguments.plan:
        raise UsageError(
            "both -o OUT and --plan were given" if arguments.plan else "no output file was given",
            expected="either -o OUT or --plan",
            hint=f"for example `vringcore capture {arguments.pid} -o vm.core`",
        )
    document: SlimDocument = capture_process(
        arguments.pid,
        arguments.output,
        options=Options(**options.file_options(arguments)),
        store=options.store_of(arguments),
        wanted=arguments.include,
        redact_stacks=arguments.redact_stacks,
        stop=arguments.stop,
    )
    if arguments.json:
        write_json(document)
    else:
        from vringcore.report.slim import print_slim

        write_page(arguments, lambda page: print_slim(page, document))
    return EXIT_OK


def _pid(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text!r} is no process id")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= MAX_STOP:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds up to {MAX_STOP:g}")
    return value
