"""Run inside gdb, attached to a QEMU: writes the queues of each virtio device as JSON.

The file to write is named by VRINGCORE_LAB_QUEUES.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import gdb

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.lab.oracle.devices import queues_of, virtio_devices
from tests.lab.oracle.flatten import string

_MEMBERS = {"queue-index": "queue_index", "inuse": "inuse", "used-idx": "used_idx"}


def main() -> None:
    found = [_device(device) for device in virtio_devices()]
    Path(os.environ["VRINGCORE_LAB_QUEUES"]).write_text(json.dumps(found))


def _device(device: gdb.Value) -> dict[str, Any]:
    return {
        "path": string(device["parent_obj"]["canonical_path"]),
        "queues": [
            {name: int(queue[member]) for name, member in _MEMBERS.items()}
            for queue in queues_of(device)
        ],
    }


main()
