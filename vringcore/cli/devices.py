"""``vringcore devices``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options

if TYPE_CHECKING:
    import argparse

USAGE = "vringcore devices CORE [options]"
DESCRIPTION = """\
Which virtio devices did this VM have, and what state were they in?

One line per device: its index (#) and id, kind, place (transport and PCI
address), serial, number of queues, who moves the ring indices (rings: qemu,
vhost-kernel, vhost-user ...), device status, iothread, and the block back-end
with its file. `-v` lists everything known of each device: feature bits by
name, QOM path, back-end counters and all members of struct VirtIODevice.
"""
EPILOG = """\
examples:
  vringcore devices core.20873
  vringcore devices core.20873 --device disk0 -v
  vringcore devices core.20873 --json | jq '.devices[] | {id, kind, ring_owner}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)
    options.add_choice(parser, queue=False)


def run(arguments: argparse.Namespace) -> int:
    """Print the devices; return the exit code."""
    from vringcore.cli.output import write_json, write_page
    from vringcore.cli.selection import exit_code, select

    parts = {"devices", "queues"}
    if arguments.json or arguments.verbose:
        parts.add("device-fields")
    with options.open_core(arguments) as core:
        report = select(core, parts, arguments.device, None)
    if arguments.json:
        write_json(report)
    else:
        from vringcore.report.devices import print_devices

        write_page(arguments, lambda page: print_devices(page, report, detailed=arguments.verbose))
    return exit_code(report, queues=False)
