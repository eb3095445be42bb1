"""``vringcore backtrace``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL

if TYPE_CHECKING:
    import argparse

    from vringcore.model.report import Report

USAGE = "vringcore backtrace CORE [options]"
DESCRIPTION = """\
What is each thread and each coroutine doing, and who called it?

For each thread: its number, what it is (main loop, vCPU, I/O thread,
migration, RCU, worker), the system call it was in, its arguments by name, and
its frames, the innermost first. A frame has its address, function, file and
line; one without an address is a function that the compiler inlined into the
next. Frames are numbered as gdb numbers them.

A function's arguments are shown where the debug information tells where they
were; <optimized out> is what is kept nowhere, "..." a structure.

Frames are found by the unwind tables of the program and its libraries, each
library's file checked by its build-id. Where these are not at hand a frame is
guessed from the stack and marked ?: it may be wrong. A last line tells why
the frames end where that is not the thread's beginning.

A coroutine has its address, the function that it began with, where it waits
from the outermost place to the innermost, and the frames of its own stack.
Running ones are in a thread's frames. Those that have ended and wait to be
used again are counted.

Of a process that `vringcore capture` read, a thread has its name, its state
(D: it waits for the kernel and nothing can interrupt it) and the kernel's own
frames. `-v` adds each frame's stack address and file.
"""
EPILOG = """\
examples:
  vringcore backtrace core.20873
  vringcore backtrace core.20873 --thread 20881 -v
  vringcore backtrace core.20873 --thread 20881 --locals
  vringcore backtrace core.20873 --coroutines
  vringcore backtrace core.20873 --json | jq '.threads[] | {lwp, role}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)
    choosing = parser.add_argument_group("choosing").add_mutually_exclusive_group()
    choosing.add_argument(
        "--thread", type=options.whole_number, metavar="LWP", help="only this thread, by its number"
    )
    choosing.add_argument("--threads", action="store_true", help="threads, no coroutines")
    choosing.add_argument("--coroutines", action="store_true", help="coroutines, no threads")
    parser.add_argument(
        "--locals", action="store_true", help="show the local variables of threads' functions too"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print threads and coroutines; return the exit code."""
    from vringcore.cli.output import write_json, write_page

    parts = {"threads", "coroutines"}
    if arguments.coroutines:
        parts.remove("threads")
    if arguments.threads or arguments.thread is not None:
        parts.remove("coroutines")
    if arguments.locals:
        parts.add("locals")
    with options.open_core(arguments) as core:
        report = core.report(parts, thread=arguments.thread)
    if arguments.json:
        write_json(report)
    else:
        from vringcore.report.backtrace import print_backtraces

        write_page(
            arguments, lambda page: print_backtraces(page, report, detailed=arguments.verbose)
        )
    return _exit_code(report)


def _exit_code(report: Report) -> int:
    """Return 4 where no thread has a frame: the registers of all are lost."""
    if report.threads is UNSET:
        return EXIT_OK
    return EXIT_OK if any(thread.frames for thread in report.threads) else EXIT_PARTIAL
