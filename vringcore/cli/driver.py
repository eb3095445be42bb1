"""``vringcore driver``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    import argparse

USAGE = "vringcore driver CORE --guest-types FILE [options]"
DESCRIPTION = """\
What has the guest's own driver seen, beside what QEMU says of the same ring?

For each queue: how far the driver has read the used ring (last_used_idx),
what it has published, and every request that it waits for, with the place
where it is:

  unseen         published, and QEMU has not taken it
  in-qemu        QEMU has it in flight
  held-in-order  done, and held back for one before it (VIRTIO_F_IN_ORDER)
  completed      given back; the driver has not read that (an interrupt is owed)
  with-vhost     not given back by the back-end that runs the ring
  nowhere        taken, not given back, and QEMU does not know it: lost
  not-known      not all that QEMU has in flight here could be identified

Of block devices with blk-mq's tag, state, operation, sector and length.

It is read from guest memory in the core. The guest must be a 64-bit Linux, and
the types of its kernel are needed: BTF of vmlinux and of its modules, as files
of the distribution's packages (vmlinux, virtio_ring.ko, virtio_blk.ko,
virtio_scsi.ko) or copied from the guest's /sys/kernel/btf.
"""
EPILOG = """\
examples:
  vringcore driver core.20873 --guest-types vmlinux --guest-types virtio_ring.ko
  vringcore driver core.20873 --guest-types btf/vmlinux --device disk0 --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)
    options.add_choice(parser, queue=True)
    parser.add_argument_group("the guest's kernel").add_argument(
        "--guest-types",
        metavar="FILE",
        action="append",
        default=[],
        help="vmlinux, a module, or a file of /sys/kernel/btf; repeatable",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what the driver has seen; return the exit code."""
    from vringcore.cli.output import write_json, write_page

    if not arguments.guest_types:
        raise UsageError(
            "the types of the guest's kernel are needed",
            hint="give them with --guest-types vmlinux --guest-types virtio_ring.ko;"
            " `vringcore driver --help` says where they are",
        )
    with options.open_core(arguments) as core:
        document = core.driver(
            arguments.guest_types,
            device=arguments.device,
            queue=arguments.queue,
            progress=options.progress_line("searching"),
        )
    if arguments.json:
        write_json(document)
    else:
        from vringcore.report.driver import print_driver

        write_page(arguments, lambda page: print_driver(page, document))
    return EXIT_OK if document.queues else EXIT_PARTIAL
