"""Which worker thread serves which request of the thread pool.

QEMU writes it down nowhere: a worker has its request in a register. But the system call that it
makes for the request has the request's own file, buffers and place in the file. And a coroutine
that it runs, for 9pfs, has a stack of its own, in which the thread then is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.model.requests import WorkerThread
from vringcore.qemu.aio_structs import CoroutineUContext, RawPosixAIOData

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    from vringcore.qemu.aio_structs import ThreadPoolElement
    from vringcore.qemu.syscalls import Caller
    from vringcore.view.views import Views

MAX_THREADS = 4096
"""Threads that are looked at; QEMU starts 64 workers per event loop unless told otherwise."""

STACK_SEARCHED = 4096
"""Bytes of a worker's stack in which its request must be named, to tell it from a like one."""

# Bits of RawPosixAIOData.aio_type (include/block/raw-aio.h).
_IOCTL, _FLUSH, _DISCARD, _WRITE_ZEROES, _COPY_RANGE, _TRUNCATE = 4, 8, 16, 32, 64, 128

_VECTORS = frozenset({"preadv", "pwritev", "preadv2", "pwritev2"})
_LINEAR = frozenset({"pread64", "pwrite64", "fallocate", "sync_file_range"})
_OF_TYPE = {
    "fdatasync": _FLUSH,
    "fsync": _FLUSH,
    "ioctl": _IOCTL | _DISCARD | _WRITE_ZEROES,
    "copy_file_range": _COPY_RANGE,
    "ftruncate": _TRUNCATE,
}


def node_of(views: Views, element: ThreadPoolElement, nodes: Mapping[int, str]) -> str:
    """Return the name of the node whose host file an element works on, "" if on none.

    :param nodes: names by address
    """
    try:
        return nodes.get(views.at(RawPosixAIOData, element.argument).bs, "")
    except VringcoreError:
        return ""


def workers_of(
    views: Views, elements: Iterable[ThreadPoolElement], callers: Sequence[Caller]
) -> dict[int, WorkerThread]:
    """Return the thread that serves each element, by the element's address.

    An element is left out where none is found, or where several could be its thread: a read or
    write has all that tells one request from another; for flushes and the like, of which a call
    tells the file only, the thread's own stack must name it.

    :param elements: those that are active, of host files or of coroutines
    """
    known = [caller for caller in callers if _is_io(caller)][:MAX_THREADS]
    by_file: dict[int, list[Caller]] = {}
    for caller in known:
        by_file.setdefault(_fd(caller), []).append(caller)
    fitting: dict[int, list[Caller]] = {}
    of_thread: dict[int, list[int]] = {}
    arguments: dict[int, int] = {}
    for element in elements:
        if element.argument == element.opaque:
            fitting[int(element.address_)] = _on_stack(views, element.argument, callers)
            continue
        try:
            data = views.at(RawPosixAIOData, element.argument)
            found = [each for each in by_file.get(data.fildes, ()) if _serves(each, data)]
        except VringcoreError:
            continue
        address = int(element.address_)
        arguments[address] = int(element.argument)
        fitting[address] = found
        for caller in found:
            of_thread.setdefault(caller.lwp, []).append(address)
    for address in arguments:
        found = fitting[address]
        if not _is_certain(found, of_thread):
            wanted = (address, arguments[address])
            fitting[address] = [each for each in found if _is_named(views, each, wanted)]
    return {address: _model(found[0]) for address, found in fitting.items() if len(found) == 1}


def _on_stack(views: Views, coroutine: int, callers: Sequence[Caller]) -> list[Caller]:
    """Return the thread that runs a coroutine: its stack pointer is in the coroutine's stack."""
    try:
        context = views.at(CoroutineUContext, coroutine)
        low, high = context.stack, context.stack + context.stack_size
    except VringcoreError:
        return []
    return [caller for caller in callers[:MAX_THREADS] if low <= caller.sp < high]


def _is_certain(found: list[Caller], of_thread: Mapping[int, list[int]]) -> bool:
    """Tell whether nobody but the one thread found can serve a request, nor it another."""
    return all(
        len(found) == len(of_thread[each.lwp]) == 1 and each.call.name not in _OF_TYPE
        for each in found
    )


def _is_io(caller: Caller) -> bool:
    return (
        caller.call.name in _VECTORS or caller.call.name in _LINEAR or caller.call.name in _OF_TYPE
    )


def _serves(caller: Caller, data: RawPosixAIOData) -> bool:
    """Tell whether a system call is one that a request makes (handle_aiocb_*())."""
    wanted = _OF_TYPE.get(caller.call.name)
    if wanted is not None:
        return bool(data.type_ & wanted)
    offset = caller.call.offset
    if offset is None:
        return False
    if caller.call.name in _VECTORS:
        return caller.call.arguments.get("iov") == data.iov and offset == data.offset
    # In parts: a short read or write is gone on with where it ended.
    return data.offset <= offset < data.offset + data.nbytes


def _is_named(views: Views, caller: Caller, addresses: tuple[int, ...]) -> bool:
    """Tell whether a thread's innermost frames hold one of the addresses."""
    size = views.pointer_size
    order: Literal["big", "little"] = "big" if views.layouts.big_endian else "little"
    needles = {address.to_bytes(size, order) for address in addresses}
    place = caller.sp - caller.sp % size
    try:
        for piece in views.space.pieces(HostAddress(place), STACK_SEARCHED):
            if piece.data is None:
                return False
            words = range(0, len(piece.data) - size + 1, size)
            if any(piece.data[at : at + size] in needles for at in words):
                return True
    except VringcoreError:
        pass
    return False


def _fd(caller: Caller) -> int:
    return -1 if caller.call.fd is None else caller.call.fd


def _model(caller: Caller) -> WorkerThread:
    return WorkerThread(
        lwp=caller.lwp,
        call=caller.call.name,
        fd=_fd(caller),
        name=caller.name,
        state=caller.state,
        file=caller.file,
        offset=caller.call.offset,
        result=caller.call.result,
    )
