"""Print every queue of every virtio device with the library: argv is executable, then cores.

What is known of a build is shared by all cores; the document is that of `vringcore queues --json`.
"""

import sys
import time

import vringcore
from vringcore.layout.store import LayoutStore
from vringcore.model.values import encode

PARTS = ("queues", "queue-fields")

store = LayoutStore.default()
for path in sys.argv[2:]:
    start = time.perf_counter()
    with vringcore.open_core(path, executable=sys.argv[1], store=store) as core:
        answer = encode(core.report(PARTS))
    print(f"TOOK {(time.perf_counter() - start) * 1000:.3f}")
    print("QUEUES " + answer.decode())
