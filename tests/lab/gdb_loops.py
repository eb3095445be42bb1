"""Run inside gdb: event loops and the machine around the devices, of a case made before them.

As gdb_truth.py, of which this is a part.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.lab.oracle import loops, machine


def main() -> None:
    """Writes both under the names that they have in gdb.json."""
    truth = {"event_loops": loops.event_loops(), "machine": machine.machine()}
    Path(os.environ["VRINGCORE_LAB_TRUTH"]).write_text(json.dumps(truth))


main()
