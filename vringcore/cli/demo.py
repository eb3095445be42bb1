"""``vringcore demo``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK

if TYPE_CHECKING:
    import argparse

NAME = "stuck-migration.core.zst"

SAMPLE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "sample", NAME)  # noqa: PTH118, PTH120
"""A virtio-blk disk whose server no longer answers, and a migration that waits for it.

``python -m tests.lab.sample`` makes it.
"""

USAGE = "vringcore demo [options]"
DESCRIPTION = """\
What does all this look like, without a core of one's own?

Shows the main job on a small core that comes with vringcore: a virtual machine
whose migration never ends and whose monitor is silent. It asks two questions of
it, each with the command line that asks it: why the machine is stuck, and what
its queues were doing; and says how the second answer is to be read.

Nothing else is needed: no QEMU, no debug information, no network. Nothing is
written. `--json` gives the whole report document with the verdict.
"""
EPILOG = """\
examples:
  vringcore demo
  vringcore demo --json | jq .verdict
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the sample; return the exit code."""
    from vringcore.api import open_core
    from vringcore.cli.output import write_json, write_page, write_text
    from vringcore.layout.store import LayoutStore

    # What the machine at hand has by the names in the core is none of its business.
    nowhere = os.path.join(SAMPLE, "nothing")  # noqa: PTH118
    with open_core(SAMPLE, sysroot=nowhere, store=LayoutStore()) as core:
        report = core.why()
    if arguments.json:
        write_json(report)
        return EXIT_OK
    from vringcore.report.demo import pages

    for write in pages(report, os.path.getsize(SAMPLE)):  # noqa: PTH202
        write_page(arguments, write)
    write_text(f"\nEvery other verb reads this core, too:\n{SAMPLE}")  # never folded
    return EXIT_OK
