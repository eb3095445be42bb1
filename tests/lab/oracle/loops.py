"""Every event loop that a thread runs or a variable names: handlers, bottom halves, timers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gdb

from tests.lab.oracle.flatten import string, symbol
from tests.lab.oracle.lists import chain, has, linked_list, variable

_CLOCKS = 4


def event_loops() -> list[dict[str, Any]]:
    """The main loop's two first, then those of threads, in gdb's order of threads."""
    first = int(variable("qemu_aio_context"))
    threads = dict(_own(first))
    runs = {first: threads.get(first), int(variable("iohandler_ctx")): threads.get(first)}
    pointer = gdb.lookup_type("struct AioContext").pointer()
    found = []
    for address, lwp in {**runs, **threads}.items():
        context = gdb.Value(address).cast(pointer).dereference()
        found.append({"address": address, "lwp": lwp, **_loop(context)})
    found[0]["timers"] += list(_timers(variable("main_loop_tlg")))
    return found


def _own(first: int) -> Iterator[tuple[int, int]]:
    """Each thread's own loop, and the thread; none where gdb finds no thread-local variables.

    QEMU 5.2 notes the I/O thread instead, and nothing for the one that began the process.
    """
    chosen = gdb.selected_thread()
    old = gdb.lookup_static_symbol("my_iothread") is not None
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        try:
            own = _of_iothread(thread, first) if old else _of_thread()
        except gdb.error:  # libthread_db does not read a small core
            break
        if own:
            yield own, thread.ptid[1] or thread.ptid[0]
    chosen.switch()


def _of_thread() -> int:
    return int(gdb.parse_and_eval("(unsigned long)co_tls_my_aiocontext"))


def _of_iothread(thread: gdb.InferiorThread, first: int) -> int:
    runs = gdb.parse_and_eval("my_iothread")
    if int(runs):
        return int(runs["ctx"])
    return first if thread.num == 1 else 0


def _loop(context: gdb.Value) -> dict[str, Any]:
    held = has(context, "external_disable_cnt")
    return {
        "fdmon_ops": symbol(context["fdmon_ops"]),
        "poll_started": bool(context["poll_started"]),
        "poll_max_ns": int(context["poll_max_ns"]),
        "notify_me": int(context["notify_me"]),
        "notified": bool(context["notified"]),
        "external_disable_cnt": int(context["external_disable_cnt"]) if held else None,
        "handlers": [_handler(each) for each in linked_list(context["aio_handlers"], "node")],
        "bottom_halves": list(_bottom_halves(context["bh_list"])),
        "taken": [
            half
            for part in _slices(context["bh_slice_list"])
            for half in _bottom_halves(part["bh_list"])
        ],
        "timers": list(_timers(context["tlg"])),
        "scheduled": [int(each) for each in _scheduled(context["scheduled_coroutines"])],
    }


def _handler(handler: gdb.Value) -> dict[str, Any]:
    return {
        "address": int(handler),
        "fd": int(handler["pfd"]["fd"]),
        "events": int(handler["pfd"]["events"]),
        "io_read": symbol(handler["io_read"]),
        "io_write": symbol(handler["io_write"]),
        "io_poll": symbol(handler["io_poll"]),
        "opaque": int(handler["opaque"]),
        "deleted": int(handler["node_deleted"]["le_prev"]) != 0,
        "polled": int(handler["node_poll"]["le_prev"]) != 0,
        "is_external": bool(handler["is_external"])
        if has(handler.dereference(), "is_external")
        else None,
    }


def _bottom_halves(head: gdb.Value) -> Iterator[dict[str, Any]]:
    element = head["slh_first"]
    while int(element):
        yield {
            "address": int(element),
            "name": string(element["name"]) if has(element.dereference(), "name") else None,
            "cb": symbol(element["cb"]),
            "opaque": int(element["opaque"]),
            "flags": int(element["flags"]),
        }
        element = element["next"]["sle_next"]


def _slices(head: gdb.Value) -> Iterator[gdb.Value]:
    element = head["sqh_first"]
    while int(element):
        yield element
        element = element["next"]["sqe_next"]


def _timers(group: gdb.Value) -> Iterator[dict[str, Any]]:
    for clock in range(_CLOCKS):
        for timer in chain(group["tl"][clock]["active_timers"], "next"):
            yield {
                "address": int(timer),
                "clock": clock,
                "expire_time": int(timer["expire_time"]),
                "cb": symbol(timer["cb"]),
                "opaque": int(timer["opaque"]),
            }


def _scheduled(head: gdb.Value) -> Iterator[gdb.Value]:
    element = head["slh_first"]
    while int(element):
        yield element
        element = element["co_scheduled_next"]["sle_next"]
