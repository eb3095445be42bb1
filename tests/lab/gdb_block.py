"""Run inside gdb: the block layer and its coroutines, as gdb reads them.

As :mod:`tests.lab.gdb_truth`, for what is asked only of whole cores. Nothing of ours is imported.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdb

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.lab.oracle.block import all_nodes, backends, node_name
from tests.lab.oracle.flatten import integer, string, symbol
from tests.lab.oracle.lists import (
    has,
    linked_list,
    optional_variable,
    simple_queue,
    tail_queue,
    variable,
)

JMP_BUF = {
    "i386:x86-64": ("rbx", "rbp", "r12", "r13", "r14", "r15", "rsp", "rip"),
    "aarch64": (*(f"x{n}" for n in range(19, 30)), "pc", "", "sp"),
}
MANGLED = ("rbp", "rsp", "rip", "pc", "sp")
GUARD = 0x30
"""Where glibc keeps the pointer guard above fs_base on x86-64 (``tcbhead_t``)."""

MACHINE = gdb.selected_inferior().architecture().name()

COROUTINES: dict[int, gdb.Value] = {}


def met(coroutine: gdb.Value) -> int:
    """Note a coroutine and return its address."""
    pointer = coroutine.cast(gdb.lookup_type("Coroutine").pointer())
    COROUTINES[int(pointer)] = pointer
    return int(pointer)


def co_queue(queue: gdb.Value) -> list[int]:
    return [met(each) for each in simple_queue(queue["entries"], "co_queue_next")]


def backend(found: gdb.Value) -> dict[str, Any]:
    member = found["public"]["throttle_group_member"]
    return {
        "address": int(found),
        "event_loop": int(found["ctx"]),
        "on_read_error": str(found["on_read_error"]),
        "on_write_error": str(found["on_write_error"]),
        "queued": co_queue(found["queued_requests"]),
        "queuing_disabled": int(found["disable_request_queuing"]),
        "limited": int(member["throttle_state"]) != 0,
        "member": int(member.address),
        "in_flight": int(found["in_flight"]),
        "quiesce_counter": int(found["quiesce_counter"]),
    }


def tracked(request: gdb.Value) -> dict[str, Any]:
    chain, at = [], request["waiting_for"]
    while int(at) and int(at) not in chain:
        chain.append(int(at))
        at = at["waiting_for"]
    return {
        "address": int(request),
        "kind": str(request["type"]),
        "offset": integer(request["offset"]),
        "bytes": integer(request["bytes"]),
        "serialising": bool(request["serialising"]),
        "coroutine": met(request["co"]),
        "waiting_for": chain,
        "waiters": co_queue(request["wait_queue"]),
    }


def node(found: gdb.Value) -> dict[str, Any]:
    return {
        "address": int(found),
        "name": node_name(found),
        "event_loop": int(found["aio_context"]),
        "in_flight": int(found["in_flight"]),
        "quiesce_counter": int(found["quiesce_counter"]),
        "flush_active": bool(found["active_flush_req"]),
        "parents": [int(edge["opaque"]) for edge in linked_list(found["parents"], "next_parent")],
        "children": [
            [string(edge["name"]), node_name(edge["bs"])]
            for edge in linked_list(found["children"], "next")
        ],
        "tracked": [tracked(each) for each in linked_list(found["tracked_requests"], "list")],
        "flushes": co_queue(found["flush_queue"]),
        "nbd": nbd(found) if string(found["drv"]["format_name"]) == "nbd" else None,
    }


def nbd(found: gdb.Value) -> dict[str, Any]:
    state = found["opaque"].cast(gdb.lookup_type("BDRVNBDState").pointer())
    timer = state["reconnect_delay_timer"]
    members = {field.name for field in state.dereference().type.fields()}
    low, high = state["requests"].type.range()
    taken = [n for n in range(low, high + 1) if int(state["requests"][n]["coroutine"])]
    return {
        "address": int(state),
        "state": str(state["state"]),
        "in_flight": int(state["in_flight"]),
        "reconnect_delay": int(state["reconnect_delay"]),
        "reconnect_expires": int(timer["expire_time"]) if int(timer) else -1,
        "waiting": co_queue(state["free_sema"]),
        "slots": [
            {
                "slot": n,
                "coroutine": met(state["requests"][n]["coroutine"]),
                "offset": int(state["requests"][n]["offset"]),
                "receiving": bool(state["requests"][n]["receiving"]),
            }
            for n in taken
        ],
        # Since 6.2; before, the reader held no mutex.
        "holder": int(state["receive_mutex"]["holder"]) if "receive_mutex" in members else 0,
        # Until 6.1 a coroutine of the connection's own read all replies.
        "connection": met(state["connection_co"]) if "connection_co" in members else 0,
    }


def throttle_group(found: gdb.Value) -> dict[str, Any]:
    config = found["ts"]["cfg"]
    return {
        "address": int(found),
        "name": string(found["name"]),
        "any_timer_armed": [bool(found["any_timer_armed"][n]) for n in (0, 1)],
        "tokens": [int(found["tokens"][n]) for n in (0, 1)],
        "averages": {
            field.name: integer(config["buckets"][field.enumval]["avg"])
            for field in gdb.lookup_type("BucketType").strip_typedefs().fields()
            if field.name != "BUCKETS_COUNT"
        },
        "members": [
            {
                "address": int(member),
                "pending": [int(member["pending_reqs"][n]) for n in (0, 1)],
                "limits_disabled": int(member["io_limits_disabled"]),
                "expires": [
                    int(member["throttle_timers"]["timers"][n]["expire_time"]) for n in (0, 1)
                ],
                "held": [co_queue(member["throttled_reqs"][n]) for n in (0, 1)],
            }
            for member in linked_list(found["head"], "round_robin")
        ],
    }


def loops() -> dict[int, gdb.Value]:
    found = [each["aio_context"] for each in all_nodes()] + [each["ctx"] for each in backends()]
    found.append(variable("qemu_aio_context"))
    return {int(each): each for each in found if int(each)}


def engines() -> Iterator[dict[str, Any]]:
    for address, loop in loops().items():
        for kind, member in (("linux-aio", "linux_aio"), ("io-uring", "linux_io_uring")):
            if has(loop.dereference(), member) and int(loop[member]):
                queue = loop[member]["io_q"]
                yield {
                    "kind": kind,
                    "event_loop": address,
                    "in_flight": int(queue["in_flight"]),
                    "in_queue": int(queue["in_queue"]),
                    "blocked": bool(queue["blocked"]),
                }
        pool = loop["thread_pool"]
        if int(pool):
            yield {
                "kind": "thread-pool",
                "event_loop": address,
                "idle_threads": int(pool["idle_threads"]),
                "total_threads": int(pool["cur_threads"]),
                "elements": [element(each) for each in linked_list(pool["head"], "all")],
            }


def element(found: gdb.Value) -> dict[str, Any]:
    waiting = found["common"]["opaque"].cast(gdb.lookup_type("ThreadPoolCo").pointer())
    return {
        "address": int(found),
        "state": str(found["state"]),
        "function": symbol(found["func"]),
        "coroutine": met(waiting["co"]) if int(waiting) else None,
    }


def job(found: gdb.Value) -> dict[str, Any]:
    return {
        "id": string(found["id"]),
        "address": int(found),
        "status": str(found["status"]),
        "kind": str(found["driver"]["job_type"]),
        "coroutine": met(found["co"]) if int(found["co"]) else None,
        "pause_count": int(found["pause_count"]),
        "paused": bool(found["paused"]),
        "busy": bool(found["busy"]),
        "cancelled": bool(found["cancelled"]),
        "expires": int(found["sleep_timer"]["expire_time"]),
    }


def registers_of(found: gdb.Value, guard: int) -> dict[str, int]:
    """The registers that sigsetjmp() saved for a coroutine, made plain."""
    context = found.cast(gdb.lookup_type("CoroutineUContext").pointer())
    words = context["env"][0]["__jmpbuf"]
    registers = {
        name: int(words[n]) & (1 << 64) - 1 for n, name in enumerate(JMP_BUF[MACHINE]) if name
    }
    for name in registers.keys() & MANGLED:
        word = registers[name]
        if MACHINE != "aarch64":
            word = word >> 17 | word << 47 & (1 << 64) - 1
        registers[name] = word ^ guard
    return registers


def coroutine(found: gdb.Value, guard: int | None) -> dict[str, Any]:
    return {
        "address": int(found),
        "entry": symbol(found["entry"]),
        "caller": int(found["caller"]),
        "event_loop": int(found["ctx"]),
        "locks_held": int(found["locks_held"]),
        "registers": None if guard is None else registers_of(found, guard),
    }


def idle() -> int:
    """How many coroutines are in the pools, QEMU's own and each thread's."""
    shared = optional_variable("release_pool")  # until 8.2
    of_thread = "co_tls_alloc_pool" if shared is not None else "co_tls_local_pool"
    if shared is not None and optional_variable("alloc_pool") is not None:
        of_thread = "alloc_pool"  # until 7.0
    count = length(shared) if shared is not None else length_of_batches(variable("global_pool"))
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        if not thread_pointer():
            continue
        own = gdb.parse_and_eval(f"'util/qemu-coroutine.c'::{of_thread}")
        count += length(own) if shared is not None else length_of_batches(own)
    return count


def length(head: gdb.Value) -> int:
    count, at = 0, head["slh_first"]
    while int(at):
        count, at = count + 1, at["pool_next"]["sle_next"]
    return count


def length_of_batches(pool: gdb.Value) -> int:
    count, batch = 0, pool["slh_first"]
    while int(batch):
        count, batch = count + length(batch["list"]), batch["next"]["sle_next"]
    return count


def thread_pointer() -> int:
    """The selected thread's; 0 where nobody took its registers."""
    return int(gdb.parse_and_eval("$fs_base")) if MACHINE != "aarch64" else 0


def pointer_guard() -> int | None:
    """What glibc mangles saved addresses with; None where no thread has a thread pointer."""
    word = gdb.lookup_type("unsigned long").pointer()
    if MACHINE == "aarch64":
        # The linker's own copy; the kernel gave it in the second half of AT_RANDOM.
        row = re.search(r"^25 .* (0x[0-9a-f]+)$", gdb.execute("info auxv", to_string=True), re.M)
        return int(gdb.Value(int(row[1], 16) + 8).cast(word).dereference()) if row else None
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        if thread_pointer():
            return int(gdb.Value(thread_pointer() + GUARD).cast(word).dereference())
    return None


def main() -> None:
    guard = pointer_guard()
    truth = {
        "backends": [backend(each) for each in backends()],
        "nodes": [node(each) for each in all_nodes()],
        "throttle_groups": [
            throttle_group(each) for each in tail_queue(variable("throttle_groups"), "list")
        ],
        "engines": list(engines()),
        "jobs": [job(each) for each in linked_list(variable("jobs"), "job_list")],
        "drain_all_count": int(variable("bdrv_drain_all_count")),
        "dispatcher": met(variable("qmp_dispatcher_co")),
    }
    truth["coroutines"] = [coroutine(each, guard) for each in COROUTINES.values()]
    truth["idle"] = None if guard is None or MACHINE == "aarch64" else idle()
    Path(os.environ["VRINGCORE_LAB_TRUTH"]).write_text(json.dumps(truth, indent=1))


main()
