"""Run inside gdb: every frame of every thread, as gdb unwinds them. Nothing of ours is imported."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import gdb

KINDS = {
    gdb.NORMAL_FRAME: "normal",
    gdb.INLINE_FRAME: "inlined",
    gdb.TAILCALL_FRAME: "tail-call",
    gdb.SIGTRAMP_FRAME: "trampoline",
    gdb.DUMMY_FRAME: "dummy",
}


def stack_address(frame: Any) -> int | None:
    frame.select()
    try:
        text: str = gdb.execute("info frame", to_string=True)
    except gdb.error:  # registers that nobody took, or (arm64) where a stack begins
        return None
    found = re.search(r"(?:frame at|inlined into frame \d+ *at) (0x[0-9a-f]+)", text)
    return int(found[1], 16) if found else None


SCALARS = {
    gdb.TYPE_CODE_INT, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_CHAR, gdb.TYPE_CODE_ENUM,
    gdb.TYPE_CODE_PTR,
}  # fmt: skip


def variables(frame: Any) -> dict[str, list[list[Any]]]:
    """Return the arguments and the other variables in force, the innermost block's first."""
    found: dict[str, list[list[Any]]] = {"arguments": [], "locals": []}
    try:
        block = frame.block()
    except RuntimeError:  # no debug information
        return found
    while block is not None:
        for symbol in block:
            if symbol.is_argument:
                found["arguments"].append([symbol.name, worth(symbol, frame)])
            elif symbol.is_variable:
                found["locals"].append([symbol.name, worth(symbol, frame)])
        if block.function is not None:
            break
        block = block.superblock
    return found


def worth(symbol: Any, frame: Any) -> Any:
    """Return a scalar's number, or why there is none in words."""
    try:
        value = symbol.value(frame)
        if value.is_optimized_out:
            return "optimized out"
        if value.type.strip_typedefs().code not in SCALARS:
            return "aggregate"
        return int(value)
    except gdb.error as error:
        return "optimized out" if "optimized out" in str(error) else f"error: {error}"


def rows() -> list[dict[str, Any]]:
    found = []
    frame = gdb.newest_frame()
    while frame is not None:
        place = frame.find_sal()
        found.append(
            {
                "kind": KINDS[frame.type()],
                "pc": frame.pc(),
                "cfa": stack_address(frame),
                "function": frame.name(),
                "file": place.symtab.filename if place.symtab else None,
                "line": place.line if place.symtab else None,
                **variables(frame),
            }
        )
        frame = frame.older()
    return found


def main() -> None:
    gdb.execute("set backtrace past-main on")
    threads = []
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        threads.append({"lwp": thread.ptid[1] or thread.ptid[0], "frames": rows()})
    with open(os.environ["VRINGCORE_LAB_TRUTH"], "w") as file:
        json.dump(threads, file)


main()
