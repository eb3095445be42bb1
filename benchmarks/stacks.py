"""What vringcore and gdb say of each thread's stack, brought to one form and compared.

The form: by the number of each thread its functions, innermost first, and whether each was inlined.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

Stacks = dict[int, list[tuple[str | None, bool]]]

GENERATED = "code_gen_buffer"
"""What gdb calls code that TCG made; what it says of the frames behind that, it guesses."""


def ours(output: str) -> Stacks:
    """Return what ``backtrace --json`` printed, without frames inferred from tail calls."""
    return {
        thread["lwp"]: [
            (frame["function"], frame.get("inlined", False))
            for frame in thread["frames"]
            if frame["how"] != "tail-call"
        ]
        for thread in json.loads(output)["threads"]
    }


def gdbs(executable: Path, core: Path) -> Stacks:
    """Return what gdb says, by the lab's script, up to generated code."""
    from tests.lab.gdb_run import FRAMES, write_truth

    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "frames.json"
        write_truth(executable, core, target, FRAMES)
        threads = json.loads(target.read_text())
    found: Stacks = {}
    for thread in threads:
        known = [f for f in thread["frames"] if f["kind"] != "tail-call"]
        names = [(f["function"], f["kind"] == "inlined") for f in known]
        end = next((n for n, (name, _) in enumerate(names) if name == GENERATED), None)
        found[thread["lwp"]] = names if end is None else names[: end + 1]
    return found


def difference(our: Stacks, their: Stacks) -> str:
    """Return how the first stack that differs does; "" if all are equal."""
    if our.keys() != their.keys():
        return f"vringcore has the threads {sorted(our)}, gdb {sorted(their)}"
    for lwp, expected in their.items():
        found = our[lwp]
        if expected and expected[-1][0] == GENERATED:
            expected = expected[:-1]
            found = found[: len(expected)]
        if found != expected:
            return f"thread {lwp}: vringcore has {found}, gdb {expected}"
    return ""
