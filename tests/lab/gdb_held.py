"""Run inside gdb: the elements that device models other than virtio-blk keep, as gdb reads them.

As :mod:`tests.lab.gdb_truth`, for what is asked only of whole cores. Nothing of ours is imported.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdb

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.lab.oracle.devices import model_type, virtio_devices
from tests.lab.oracle.lists import linked_list, object_types, tail_queue

HEADER = 256
"""Bytes of a request's beginning that are written down."""


def pointer_to(address: gdb.Value | int, c_type: str) -> gdb.Value:
    return gdb.Value(int(address)).cast(gdb.lookup_type(c_type).pointer())


def element(found: gdb.Value, queue: gdb.Value, owner: int, own: Any = None) -> dict[str, Any]:
    out = [found["out_sg"][index] for index in range(int(found["out_num"]))]
    return {
        "owner": owner,
        "element": int(found.address),
        "queue": int(queue["queue_index"]),
        "head": int(found["index"]),
        "readable": sum(int(each["iov_len"]) for each in out),
        "writable": sum(
            int(found["in_sg"][index]["iov_len"]) for index in range(int(found["in_num"]))
        ),
        "header": _beginning(out).hex(),
        "own": own,
    }


def _beginning(buffers: list[gdb.Value]) -> bytes:
    data = b""
    for each in buffers:
        size = min(int(each["iov_len"]), HEADER - len(data))
        if size:
            data += bytes(gdb.selected_inferior().read_memory(int(each["iov_base"]), size))
    return data


def member(owner: gdb.Value, *names: str) -> Any:
    """The first of these members that this release has, None if it has none of them."""
    for name in names:
        try:
            return owner[name]
        except gdb.error:
            continue
    return None


def scsi(device: int) -> Iterator[dict[str, Any]]:
    base = pointer_to(device, "struct DeviceState")
    waiting = {int(each): each for each in in_frames("virtio_scsi_do_tmf", "req")}
    for bus in linked_list(base["child_bus"], "sibling"):
        for child in tail_queue(bus["children"], "sibling"):
            unit = pointer_to(child["child"], "struct SCSIDevice")
            for request in (*tail_queue(unit["requests"], "next"), *cancelled(unit)):
                ours = pointer_to(request["hba_private"], "struct VirtIOSCSIReq")
                own: dict[str, object] = {
                    name: int(request[name])
                    for name in (
                        *("refcount", "tag", "lun", "status"),
                        *("enqueued", "io_canceled", "retry", "dma_started"),
                    )
                }
                own["residual"] = int(member(request, "residual", "resid"))  # resid until 5.2
                status = member(request, "host_status")  # since 6.0
                if status is not None:
                    own["host_status"] = int(status)
                command = request["cmd"]
                own["cmd"] = {
                    "buf": bytes(int(command["buf"][at]) for at in range(16)).hex(),
                    "len": int(command["len"]),
                    "xfer": int(command["xfer"]),
                    "lba": int(command["lba"]),
                }
                yield element(ours["elem"], ours["vq"], int(ours), own)
                for notifier in linked_list(request["cancel_notifiers"]["notifiers"], "node"):
                    if "<virtio_scsi_cancel_notify>" in str(notifier["notify"]):
                        cancel = notifier.cast(
                            gdb.lookup_type("VirtIOSCSICancelNotifier").pointer()
                        )
                        waiting[int(cancel["tmf_req"])] = cancel["tmf_req"]
    for address, ours in waiting.items():
        yield element(ours["elem"], ours["vq"], address)


def cancelled(unit: gdb.Value) -> Iterator[gdb.Value]:
    """The requests that a disk no longer lists: those that its node still works on."""
    for tracked in linked_list(unit["conf"]["blk"]["root"]["bs"]["tracked_requests"], "list"):
        call = tracked["co"]["entry_arg"].cast(gdb.lookup_type("BlkAioEmAIOCB").pointer())
        transfer = call["common"]["opaque"].cast(gdb.lookup_type("DMAAIOCB").pointer())
        ours = transfer["common"]["opaque"].cast(gdb.lookup_type("SCSIDiskReq").pointer())
        if not int(ours["req"]["enqueued"]):
            yield ours["req"]


def in_frames(function: str, variable: str) -> Iterator[gdb.Value]:
    """The values of a variable in all frames of a function."""
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        frame = gdb.newest_frame()
        while frame is not None:
            if frame.name() == function:
                yield frame.read_var(variable)
            frame = frame.older()


def net(device: int) -> Iterator[dict[str, Any]]:
    card = pointer_to(device, "struct VirtIONet")
    pairs = member(card, "max_queue_pairs", "max_queues")  # the second until 6.1
    for index in range(int(pairs)):
        queue = card["vqs"][index]
        if int(queue["async_tx"]["elem"]):
            found = queue["async_tx"]["elem"]
            yield element(found.dereference(), queue["tx_vq"], int(found))


def serial(device: int) -> Iterator[dict[str, Any]]:
    for port in tail_queue(pointer_to(device, "struct VirtIOSerial")["ports"], "next"):
        if int(port["elem"]):
            own = {
                "port": int(port["id"]),
                "iov_idx": int(port["iov_idx"]),
                "iov_offset": int(port["iov_offset"]),
                "throttled": bool(port["throttled"]),
                "host_connected": bool(port["host_connected"]),
            }
            yield element(port["elem"].dereference(), port["ovq"], int(port["elem"]), own)


def balloon(device: int) -> Iterator[dict[str, Any]]:
    found = pointer_to(device, "struct VirtIOBalloon")
    if int(found["stats_vq_elem"]):
        held = found["stats_vq_elem"]
        yield element(held.dereference(), found["svq"], int(held))


def plan9(device: int) -> Iterator[dict[str, Any]]:
    server = pointer_to(device, "struct V9fsVirtioState")
    workers = _plan9_workers()
    for index in range(server["elems"].type.range()[1] + 1):
        if int(server["elems"][index]):
            pdu = server["state"]["pdus"][index]
            own: dict[str, object] = {
                name: int(pdu[name]) for name in ("size", "tag", "id", "cancelled")
            }
            own["worker"] = workers.get(int(pdu.address))
            yield element(server["elems"][index].dereference(), server["vq"], int(pdu.address), own)


def _plan9_workers() -> dict[int, int]:
    """The threads that run coroutines, by what their entry functions were given: a V9fsPDU."""
    found = {}
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        frame = gdb.newest_frame()
        while frame.older() is not None and frame.older().name() is not None:
            if frame.older().name() == "coroutine_trampoline":
                found[int(frame.read_var("opaque"))] = thread.ptid[1]
            frame = frame.older()
    return found


KEEPERS = {
    "VirtIOSCSI": scsi,
    "VirtIONet": net,
    "VirtIOSerial": serial,
    "VirtIOBalloon": balloon,
    "V9fsVirtioState": plan9,
}


def held() -> list[dict[str, Any]]:
    found = []
    for device in virtio_devices():
        address = int(device.address)
        keeper = KEEPERS.get(model_type(object_types(address)) or "")
        if keeper is not None:
            found += [{"device": address, **each} for each in keeper(address)]
    return found


Path(os.environ["VRINGCORE_LAB_TRUTH"]).write_text(json.dumps(held()))
