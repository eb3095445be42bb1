"""``vringcore backtrace``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL

if TYPE_CHECKING:
    import argparse

    from vringcore.model.report import Report

USAGE = "vringcore backtrace CORE [options]"
DESCRIPTION = """\
What is each thread doing, and who called it?

For each thread: its number, what it is (main loop, vCPU, I/O thread,
migration, RCU, worker), the system call it was in, its arguments by name, and
its frames, the innermost first. A frame has its address, function, file and
line; one without an address is a function that the compiler inlined into the
next. Frames are numbered as gdb numbers them.

Frames are found by the unwind tables of the program and its libraries, each
library's file checked by its build-id. Where these are not at hand a frame is
guessed from the stack and marked ?: it may be wrong. A last line tells why
the frames end where that is not the thread's beginning.

Of a process that `vringcore capture` read, a thread has its name, its state
(D: it waits for the kernel and nothing can interrupt it) and the kernel's own
frames. `-v` adds each frame's stack address and file.
"""
EPILOG = """\
examples:
  vringcore backtrace core.20873
  vringcore backtrace core.20873 --thread 20881 -v
  vringcore backtrace core.20873 --json | jq '.threads[] | {lwp, role}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)
    parser.add_argument_group("choosing").add_argument(
        "--thread", type=int, metavar="LWP", help="only this thread, by its number"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the threads; return the exit code."""
    from vringcore.cli.output import write_json, write_page

    with options.open_core(arguments) as core:
        report = core.report({"threads"}, thread=arguments.thread)
    if arguments.json:
        write_json(report)
    else:
        from vringcore.report.backtrace import print_threads

        write_page(arguments, lambda page: print_threads(page, report, detailed=arguments.verbose))
    return _exit_code(report)


def _exit_code(report: Report) -> int:
    """Return 4 where no thread has a frame: the registers of all are lost."""
    return EXIT_OK if any(thread.frames for thread in report.threads or ()) else EXIT_PARTIAL
