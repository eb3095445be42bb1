"""virtio-blk requests in flight, by every place where QEMU keeps a way to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gdb

from tests.lab.oracle.block import all_nodes, backends, node_name, throttled
from tests.lab.oracle.devices import model_type, virtio_devices
from tests.lab.oracle.flatten import integer, symbol
from tests.lab.oracle.lists import chain, linked_list, object_types, simple_queue
from tests.lab.oracle.workers import file_work, pool_elements

_ENTRIES = (
    "blk_aio_read_entry",
    "blk_aio_write_entry",
    "blk_aio_flush_entry",
    "blk_aio_pdiscard_entry",
)
_COMPLETIONS = (
    "virtio_blk_rw_complete",
    "virtio_blk_flush_complete",
    "virtio_blk_discard_write_zeroes_complete",
)


def requests() -> list[dict[str, Any]]:
    """Every request found, once, with all the places that led to it."""
    found: dict[int, dict[str, Any]] = {}
    for place, request in (*_by_coroutine(), *_by_retry_list()):
        for merged in chain(request, "mr_next"):
            known = found.setdefault(int(merged), _request(merged))
            known["found_in"].append(place)
    return list(found.values())


def _by_coroutine() -> Iterator[tuple[dict[str, Any], gdb.Value]]:
    ways = (*_tracked(), *_queued(), *throttled(), *_nbd_slots(), *_in_thread_pools())
    for place, coroutine in ways:
        request = _request_of(coroutine)
        if request is not None:
            yield place, request


def _tracked() -> Iterator[tuple[dict[str, Any], gdb.Value]]:
    for node in all_nodes():
        for tracked in linked_list(node["tracked_requests"], "list"):
            place = {
                "list": "tracked_requests",
                "node": node_name(node),
                "tracked": int(tracked),
                "coroutine": int(tracked["co"]),
                "offset": int(tracked["offset"]),
                "bytes": int(tracked["bytes"]),
                "type": str(tracked["type"]),
            }
            yield place, tracked["co"]


def _queued() -> Iterator[tuple[dict[str, Any], gdb.Value]]:
    for backend in backends():
        for waiting in simple_queue(backend["queued_requests"]["entries"], "co_queue_next"):
            yield {"list": "queued_requests", "coroutine": int(waiting)}, waiting


def _nbd_slots() -> Iterator[tuple[dict[str, Any], gdb.Value]]:
    for node in all_nodes():
        if int(node["drv"]) == 0 or node["drv"]["format_name"].string() != "nbd":
            continue
        state = node["opaque"].cast(gdb.lookup_type("BDRVNBDState").pointer())
        low, high = state["requests"].type.range()
        for slot in range(low, high + 1):
            waiting = state["requests"][slot]["coroutine"]
            if int(waiting):
                place = {"list": "nbd", "node": node_name(node), "slot": slot}
                yield {**place, "coroutine": int(waiting)}, waiting


def _in_thread_pools() -> Iterator[tuple[dict[str, Any], gdb.Value]]:
    pointer = gdb.lookup_type("ThreadPoolCo").pointer()
    for element in pool_elements():
        if int(element["common"]["opaque"]):
            waiting = element["common"]["opaque"].cast(pointer)["co"]
            file = file_work(element)
            node = {} if file is None else {"node": node_name(file["bs"])}
            place = {"list": "thread_pool", **node, "element": int(element)}
            yield {**place, "coroutine": int(waiting)}, waiting


def _by_retry_list() -> Iterator[tuple[dict[str, Any], gdb.Value]]:
    pointer = gdb.lookup_type("VirtIOBlockReq").pointer()
    for device in virtio_devices():
        if model_type(object_types(int(device.address))) != "VirtIOBlock":
            continue
        disk = gdb.Value(int(device.address)).cast(gdb.lookup_type("VirtIOBlock").pointer())
        for request in chain(disk["rq"].cast(pointer), "next"):
            yield {"list": "rq", "device": int(device.address)}, request


def _request_of(coroutine: gdb.Value) -> gdb.Value | None:
    if symbol(coroutine["entry"]) not in _ENTRIES:
        return None
    pending = coroutine["entry_arg"].cast(gdb.lookup_type("BlkAioEmAIOCB").pointer())
    if symbol(pending["common"]["cb"]) not in _COMPLETIONS:
        return None
    return pending["common"]["opaque"].cast(gdb.lookup_type("VirtIOBlockReq").pointer())


def _request(request: gdb.Value) -> dict[str, Any]:
    element = request["elem"]
    queue = request["vq"]
    return {
        "address": int(request),
        "device": int(request["dev"]),
        "queue": int(queue["queue_index"]),
        "index": int(element["index"]),
        "in_num": int(element["in_num"]),
        "out_num": int(element["out_num"]),
        "ndescs": int(element["ndescs"]),
        "in_buffers": _buffers(element, "in"),
        "out_buffers": _buffers(element, "out"),
        "sector_num": integer(request["sector_num"]),
        "type": int(request["out"]["type"]),
        "out_sector": int(request["out"]["sector"]),
        "qiov_size": int(request["qiov"]["size"]),
        "in_len": int(request["in_len"]),
        "acct_bytes": integer(request["acct"]["bytes"]),
        "acct_start_time_ns": integer(request["acct"]["start_time_ns"]),
        "found_in": [],
    }


def _buffers(element: gdb.Value, direction: str) -> list[dict[str, int]]:
    addresses, vectors = element[f"{direction}_addr"], element[f"{direction}_sg"]
    return [
        {
            "dma_address": int(addresses[number]),
            "host_address": int(vectors[number]["iov_base"]),
            "length": int(vectors[number]["iov_len"]),
        }
        for number in range(int(element[f"{direction}_num"]))
    ]
