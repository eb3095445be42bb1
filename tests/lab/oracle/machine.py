"""The machine around the devices: vCPUs, migrations, how virtio devices interrupt the guest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gdb

from tests.lab.oracle.devices import virtio_devices
from tests.lab.oracle.flatten import read, string
from tests.lab.oracle.lists import has, object_types, optional_variable, tail_queue, variable

_ENTRY = 16
_FLAGS = ("halted", "created", "stop", "stopped", "crash_occurred")


def machine() -> dict[str, Any]:
    """vCPUs in the order of QEMU's list, devices in the order of the run-state handlers."""
    threads = dict(_threads())
    return {
        "vcpus": list(_vcpus(threads)),
        "outgoing": _outgoing(variable("current_migration"), threads),
        "incoming": _incoming(variable("current_incoming")),
        "interrupts": [_interrupts(device) for device in virtio_devices()],
    }


def _threads() -> Iterator[tuple[int, int]]:
    """Each thread's ``pthread_t``, as the C library's debugger interface tells it, and number."""
    for thread in gdb.selected_inferior().threads():
        try:
            handle = thread.handle()
        except RuntimeError:  # libthread_db does not read a small core
            continue
        yield int.from_bytes(handle, "little"), thread.ptid[1] or thread.ptid[0]


def _vcpus(threads: dict[int, int]) -> Iterator[dict[str, Any]]:
    head = optional_variable("cpus_queue") or variable("cpus")
    for cpu in tail_queue(head, "node"):
        flags = {name: bool(cpu[name]) for name in _FLAGS}
        lwp = threads.get(int(cpu["thread"]["thread"]))
        yield {"index": int(cpu["cpu_index"]), "lwp": lwp, **flags}


def _outgoing(state: gdb.Value, threads: dict[int, int]) -> dict[str, Any] | None:
    if not int(state):
        return None
    old = has(state.dereference(), "vm_old_state")
    return {
        "status": _status(state["state"]),
        "lwp": threads.get(int(state["thread"]["thread"])),
        "running": bool(state["migration_thread_running"]),
        "start_time": int(state["start_time"]),
        "vm_was_running": None if old else bool(state["vm_was_running"]),
        "vm_old_state": str(state["vm_old_state"]) if old else None,
        "error": string(state["error"]["msg"]) if int(state["error"]) else None,
    }


def _incoming(state: gdb.Value) -> dict[str, Any] | None:
    return {"status": _status(state["state"])} if int(state) else None


def _status(value: gdb.Value) -> str:
    return str(value.cast(gdb.lookup_type("MigrationStatus")))


def _interrupts(device: gdb.Value) -> dict[str, Any]:
    proxy = device["parent_obj"]["parent_bus"]["parent"]
    found: dict[str, Any] = {
        "address": int(device.address),
        "isr": int(device["isr"]),
        "config_vector": int(device["config_vector"]),
        "pci": None,
    }
    if "virtio-pci" in object_types(int(proxy)):
        pci = proxy.cast(gdb.lookup_type("PCIDevice").pointer())
        entries = int(pci["msix_entries_nr"])
        found["pci"] = {
            "config": read(int(pci["config"]), 256).hex(),
            "msix_cap": int(pci["msix_cap"]),
            "msix_function_masked": bool(pci["msix_function_masked"]),
            "irq_state": int(pci["irq_state"]),
            "table": read(int(pci["msix_table"]), entries * _ENTRY).hex() if entries else "",
            "pba": read(int(pci["msix_pba"]), (entries + 7) // 8).hex() if entries else "",
        }
    return found
