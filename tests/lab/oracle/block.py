"""The block layer: back-ends, nodes and throttled coroutines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gdb

from tests.lab.oracle.flatten import flatten, string
from tests.lab.oracle.lists import has, linked_list, simple_queue, tail_queue, variable


def block_graph() -> dict[str, Any]:
    """All back-ends and nodes with their counters."""
    return {
        "backends": [_backend(found) for found in backends()],
        "nodes": [_node(found) for found in all_nodes()],
    }


def backends() -> Iterator[gdb.Value]:
    """Every BlockBackend."""
    return tail_queue(variable("block_backends"), "link")


def all_nodes() -> Iterator[gdb.Value]:
    """Every BlockDriverState."""
    return tail_queue(variable("all_bdrv_states"), "bs_list")


def node_name(node: gdb.Value) -> str:
    """A node's name; QEMU makes one up where the user gave none."""
    return str(node["node_name"].string())


def throttled() -> Iterator[tuple[dict[str, Any], gdb.Value]]:
    """Coroutines waiting in a throttle group, of back-ends and of throttle nodes."""
    for owner, member in _throttle_members():
        for direction in (0, 1):
            queue = member["throttled_reqs"][direction]["entries"]
            for waiting in simple_queue(queue, "co_queue_next"):
                place = {"list": "throttled_reqs", "owner": owner, "direction": direction}
                yield {**place, "coroutine": int(waiting)}, waiting


def _throttle_members() -> Iterator[tuple[str, gdb.Value]]:
    for backend in backends():
        yield "backend", backend["public"]["throttle_group_member"]
    for node in all_nodes():
        if _driver(node) == "throttle":
            member = node["opaque"].cast(gdb.lookup_type("ThrottleGroupMember").pointer())
            yield node_name(node), member.dereference()


def _backend(backend: gdb.Value) -> dict[str, Any]:
    root = backend["root"]
    return {
        "address": int(backend),
        "name": string(backend["name"]),
        "device": int(backend["dev"]),
        "in_flight": int(backend["in_flight"]),
        "quiesce_counter": int(backend["quiesce_counter"]),
        "iostatus": int(backend["iostatus"]),
        "root": node_name(root["bs"]) if int(root) and int(root["bs"]) else None,
    }


def _node(node: gdb.Value) -> dict[str, Any]:
    return {
        "address": int(node),
        "node_name": node_name(node),
        "driver": _driver(node),
        "in_flight": int(node["in_flight"]),
        "quiesce_counter": int(node["quiesce_counter"]),
        "engines": _engines(node["aio_context"]),
        "filename": str(node["filename"].string(errors="replace")),
        "children": [
            {"name": string(child["name"]), "node": node_name(child["bs"])}
            for child in linked_list(node["children"], "next")
        ],
    }


def _engines(context: gdb.Value) -> dict[str, Any]:
    """Queues of linux-aio and io_uring of a node's AioContext, where it has them."""
    found = {}
    for name in ("linux_aio", "linux_io_uring"):
        if has(context.dereference(), name) and int(context[name]):
            found[name] = flatten(context[name]["io_q"])["fields"]
    return found


def _driver(node: gdb.Value) -> str | None:
    return string(node["drv"]["format_name"]) if int(node["drv"]) else None
