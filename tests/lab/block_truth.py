"""What gdb says of the block layer of a whole core, asked once per test run."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.lab.cases import CoreCase
from tests.lab.gdb_run import write_truth

BLOCK = Path(__file__).with_name("gdb_block.py")


@cache
def truth_of(core: CoreCase) -> Any:
    with TemporaryDirectory() as scratch:
        return block_truth(core.case.executable, core.path, Path(scratch))


def block_truth(executable: Path, core: Path, scratch: Path) -> Any:
    """Return what tests/lab/gdb_block.py writes of a core."""
    target = scratch / "block.json"
    write_truth(executable, core, target, BLOCK)
    return json.loads(target.read_text())
