"""The process as a whole: memory topology, threads, run state, identity."""

from __future__ import annotations

from typing import Any

import gdb

from tests.lab.oracle.flatten import integer, raw_bytes, string
from tests.lab.oracle.lists import linked_list, object_types, optional_variable, variable
from tests.lab.oracle.workers import work_of

_MAX_FRAMES = 64
_REGISTERS = {
    "i386:x86-64": ("rip", "rsp", "rbp", "fs_base", "orig_rax"),
    "aarch64": ("pc", "sp", "x29", "x30", "x8"),
}


def flat_view() -> list[dict[str, Any]]:
    """Ranges of address_space_memory; `host` is 0 where a range is not backed by RAM."""
    view = variable("address_space_memory")["current_map"]
    return [_range(view["ranges"][number]) for number in range(int(view["nr"]))]


def ram_blocks() -> list[dict[str, Any]]:
    """All RAMBlocks in QEMU's order."""
    return [
        {
            "address": int(block),
            "idstr": str(block["idstr"].string()),
            "host": int(block["host"]),
            "used_length": int(block["used_length"]),
            "max_length": int(block["max_length"]),
            "offset": int(block["offset"]),
        }
        for block in linked_list(variable("ram_list")["blocks"], "next")
    ]


def threads() -> list[dict[str, Any]]:
    """All threads with registers and backtrace, in the order of the core's notes."""
    found = sorted(gdb.selected_inferior().threads(), key=lambda thread: thread.num)
    return [_thread(thread) for thread in found]


def state() -> dict[str, Any]:
    """Run state, migration, machine, name and UUID."""
    migration = variable("current_migration")
    machine = variable("current_machine")
    name = optional_variable("qemu_name")
    run_state = variable("current_run_state")
    return {
        "run_state": {"value": int(run_state), "name": str(run_state)},
        "migration_state": int(migration["state"]) if int(migration) else None,
        "machine_type": next(iter(object_types(int(machine))), None),
        "dump_guest_core": bool(machine["dump_guest_core"]),
        "qemu_name": string(name) if name is not None else None,
        "qemu_uuid": raw_bytes(variable("qemu_uuid")["data"]).hex(),
    }


def _range(found: gdb.Value) -> dict[str, Any]:
    region = found["mr"]
    backed = bool(region["ram"]) and int(region["ram_block"]) != 0
    host = 0
    if backed:
        host = int(region["ram_block"]["host"]) + int(found["offset_in_region"])
    return {
        "start": integer(found["addr"]["start"]),
        "size": integer(found["addr"]["size"]),
        "region": string(region["name"]),
        "offset_in_region": int(found["offset_in_region"]),
        "readonly": bool(found["readonly"]),
        "host": host,
    }


def _thread(thread: gdb.InferiorThread) -> dict[str, Any]:
    thread.switch()
    frame = gdb.newest_frame()
    registers = _REGISTERS.get(frame.architecture().name(), ("pc", "sp"))
    values = {name: int(frame.read_register(name)) & (2**64 - 1) for name in registers}
    return {
        "lwp": thread.ptid[1],
        "registers": values,
        "frames": _frames(frame),
        "works_on": work_of(frame),
    }


def _frames(frame: gdb.Frame | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while frame is not None and len(found) < _MAX_FRAMES:
        found.append(
            {
                "function": frame.name(),
                "pc": frame.pc(),
                "sp": int(frame.read_register("sp")) & (2**64 - 1),
                "inlined": frame.type() == gdb.INLINE_FRAME,
            }
        )
        try:
            frame = frame.older()
        except gdb.error:
            return found
    return found
