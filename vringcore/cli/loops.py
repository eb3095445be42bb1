"""``vringcore loops``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL

if TYPE_CHECKING:
    import argparse

USAGE = "vringcore loops CORE [options]"
DESCRIPTION = """\
What do QEMU's event loops watch, what have they yet to run, and may the
machine move at all?

  machine     run state, accelerator, migrations, and each vCPU: halted (it
              waits for an interrupt), stop (asked to stop), stopped
  loops       each AioContext with the thread that runs it. notify_me 0: it
              asks nobody to wake it; notified: a wake-up has not been taken
              note of; external 1 or more: kicks of guests are held back
  fd          a file that it watches, for what, and whose it is: kicks and
              interrupts of queues (one line for neighbours that are alike),
              wake-ups, sockets. `held`: watched, but not called now
  BH          bottom halves that are queued, or taken to be run
  timer       armed timers, in nanoseconds of their clock; `virtual` stands
              still while the VM does
  interrupts  of each virtio device: MSI-X with the vectors in use, INTx,
              and what is masked or pending

`-v` shows every handler on a line of its own, with its functions, and every
vector. docs/loops.md tells where each fact is from.
"""
EPILOG = """\
examples:
  vringcore loops core.20873
  vringcore loops core.20873 -v
  vringcore loops core.20873 --json | jq '.event_loops[] | {name, lwp}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print event loops and the machine; return the exit code."""
    from vringcore.cli.output import write_json, write_page

    with options.open_core(arguments) as core:
        report = core.report({"devices", "event-loops", "machine"})
    if arguments.json:
        write_json(report)
    else:
        from vringcore.report.loops import print_loops

        write_page(arguments, lambda page: print_loops(page, report, detailed=arguments.verbose))
    return EXIT_OK if report.event_loops else EXIT_PARTIAL
