"""Run inside gdb, attached to a QEMU: stop where a coroutine runs, write a core, tell which.

The function to stop in is in VRINGCORE_LAB_BREAK, the core's path in VRINGCORE_LAB_CORE; what
gdb's thread was at is written beside it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import gdb


def main() -> None:
    core = Path(os.environ["VRINGCORE_LAB_CORE"])
    gdb.execute("handle SIGUSR1 nostop noprint pass")
    gdb.execute(f"break {os.environ['VRINGCORE_LAB_BREAK']}")
    core.with_suffix(".ready").touch()
    gdb.execute("continue")
    current = gdb.parse_and_eval("'util/coroutine-ucontext.c'::co_tls_current")
    chain = []
    while int(current["caller"]):
        chain.append(int(current))
        current = current["caller"]
    truth = {"lwp": gdb.selected_thread().ptid[1], "chain": chain, "leader": int(current)}
    gdb.execute(f"gcore {core}")
    core.with_suffix(".json").write_text(json.dumps(truth))
    gdb.execute("detach")


main()
