"""Entry of the oracle: ``gdb -batch -nx -x gdb_truth.py EXECUTABLE CORE``.

Writes what gdb reads from the core to the file named by VRINGCORE_LAB_TRUTH.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import gdb

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.lab.oracle import block, devices, loops, machine, process, requests, workers

PARTS = {
    "state": process.state,
    "devices": devices.devices,
    "requests": requests.requests,
    "block": block.block_graph,
    "thread_pools": workers.thread_pools,
    "flat_view": process.flat_view,
    "ram_blocks": process.ram_blocks,
    "threads": process.threads,
    "event_loops": loops.event_loops,
    "machine": machine.machine,
}


def main() -> None:
    """Collects everything; the file appears only when all of it was read.

    Of programs whose debug information gdb does not read whole, `unread` has what is missing.
    """
    truth: dict[str, object] = {}
    unread: dict[str, str] = {}
    for name, read in PARTS.items():
        try:
            truth[name] = read()
        except gdb.error as error:
            if "VRINGCORE_LAB_IN_PART" not in os.environ:
                raise
            unread[name] = str(error)
    if unread:
        truth["unread"] = unread
    Path(os.environ["VRINGCORE_LAB_TRUTH"]).write_text(json.dumps(truth, indent=1))


main()
