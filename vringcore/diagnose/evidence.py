"""Evidence for what lies in QEMU's structures: each with the C expression that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.diagnose import stacks
from vringcore.diagnose.words import device_name, queue_name, thread_name
from vringcore.model.findings import Evidence
from vringcore.model.requests import DeviceRequest

if TYPE_CHECKING:
    from vringcore.diagnose.held import Held, Line
    from vringcore.model.requests import Waiting
    from vringcore.model.threads import Thread


def member(what: str, value: Any, c_type: str, address: int, path: str) -> Evidence:
    """Return evidence that is a member of a C structure.

    :param c_type: ``VirtQueue``, as C casts it
    :param path: of the member in it: ``vring.num``
    """
    return Evidence(what, value, c_path=f"(({c_type} *){int(address):#x})->{path}")


def of_queue(line: Line, *names: str) -> tuple[Evidence, ...]:
    """Return members of a VirtQueue, by their C names, that are known."""
    known = {
        "last_avail_idx": line.queue.last_avail_idx,
        "shadow_avail_idx": line.queue.shadow_avail_idx,
        "used_idx": line.queue.used_idx,
        "signalled_used": line.queue.signalled_used,
        "signalled_used_valid": line.queue.signalled_used_valid,
        "notification": line.queue.notification,
        "inuse": line.queue.in_use,
        "vector": line.queue.vector,
    }
    where = queue_name(line.device, line.queue)
    return tuple(
        member(f"{name} of {where}", known[name], "VirtQueue", line.queue.address, name)
        for name in names
        if isinstance(known[name], int)
    )


def of_guest(line: Line, *names: str) -> tuple[Evidence, ...]:
    """Return what lies in guest memory for a split ring, by the specification's names."""
    where = queue_name(line.device, line.queue)
    found = ((name, getattr(line.queue.guest, name, None)) for name in names)
    return tuple(
        Evidence(f"{name} in guest memory, {where}", value)
        for name, value in found
        if isinstance(value, int)
    )


def of_request(held: Held) -> Evidence:
    """Return a request: what it does, where it is, and the structure that shows it."""
    request = held.request
    what = f"a request of {device_name(held.device)}"
    if held.line is not None:
        what = f"head {request.head} of {queue_name(held.device, held.line.queue)}"
    age = held.age_text
    places = ", ".join(_place(each) for each in request.waits_in[-1:])
    value = "; ".join(part for part in (request.summary, age, places) if part)
    path = "" if held.coroutine is None else f"*(Coroutine *){held.coroutine:#x}"
    inner = request.request
    if isinstance(inner, DeviceRequest):
        path = f"((VirtQueueElement *){int(inner.element):#x})->index"
    elif inner is not None and inner.kind == "virtio-blk":
        path = f"((VirtIOBlockReq *){int(inner.address):#x})->elem.index"
    return Evidence(what, value, c_path=path)


def _place(waiting: Waiting) -> str:
    worker = waiting.thread
    if worker is None:
        return f"{waiting.place} {waiting.detail}".strip()
    file = f" {worker.file}" if worker.file else ""
    return f"worker thread {worker.lwp} in {worker.call}() of file descriptor {worker.fd}{file}"


def of_thread(thread: Thread, *functions: str) -> Evidence:
    """Return where a thread is: the functions named that it is in, innermost first."""
    path = stacks.path(thread)
    shown = [name for name in path if name in functions] or path[:6] or stacks.names(thread)[:1]
    return Evidence(f"stack of the {thread_name(thread)}", " < ".join(shown))
