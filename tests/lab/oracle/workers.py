"""Worker threads: what waits for them, and what each of them works on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gdb

from tests.lab.oracle.block import all_nodes, node_name
from tests.lab.oracle.flatten import integer, symbol
from tests.lab.oracle.lists import linked_list

_FILE_WORK = "handle_aiocb_"
"""How the functions of block/file-posix.c begin that worker threads run."""


def thread_pools() -> list[dict[str, Any]]:
    """What the thread pools of all nodes' event loops have to do."""
    return [_element(element) for element in pool_elements()]


def pool_elements() -> Iterator[gdb.Value]:
    """Every element of those pools."""
    loops = {int(node["aio_context"]): node["aio_context"] for node in all_nodes()}
    for loop in loops.values():
        pool = loop["thread_pool"]
        if int(pool):
            yield from linked_list(pool["head"], "all")


def work_of(frame: gdb.Frame | None) -> int | None:
    """The argument of the function that a worker thread runs, None if it cannot be told."""
    while frame is not None:
        if (frame.name() or "").startswith(_FILE_WORK):
            for name in ("opaque", "aiocb"):
                try:
                    value = frame.read_var(name)
                except ValueError:
                    continue
                if not value.is_optimized_out:
                    return int(value)
        try:
            frame = frame.older()
        except gdb.error:
            return None
    return None


def file_work(element: gdb.Value) -> gdb.Value | None:
    """The RawPosixAIOData of an element that works on a host file."""
    if (symbol(element["func"]) or "").startswith(_FILE_WORK):
        return element["arg"].cast(gdb.lookup_type("RawPosixAIOData").pointer())
    return None


def _element(element: gdb.Value) -> dict[str, Any]:
    found = {
        "address": int(element),
        "state": str(element["state"]),
        "function": symbol(element["func"]),
        "argument": int(element["arg"]),
        "file": None,
    }
    data = file_work(element)
    if data is not None:
        found["file"] = {
            "node": node_name(data["bs"]),
            "fd": int(data["aio_fildes"]),
            "offset": integer(data["aio_offset"]),
            "bytes": integer(data["aio_nbytes"]),
            "iov": int(data["io"]["iov"]),
        }
    return found
