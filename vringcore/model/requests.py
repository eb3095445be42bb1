"""Requests in flight."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.values import Absent, Hex


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """One descriptor of a chain (VirtIO 1.3, 2.7.5).

    ``index`` is its place in the table it lies in: the ring's, or the indirect table at
    ``table``. ``flags`` are named in ``flag_names`` (``next``, ``write``, ``indirect``, and
    ``bit N`` for bits the specification does not know). A descriptor of a packed ring has a buffer
    ``id`` in place of ``next``.

    ``guest_address`` is given in chains of a device behind an IOMMU: where in guest-physical memory
    the first byte lies; absent if the IOMMU maps nothing there, or if the mapping forbids what the
    descriptor is for (``not-readable``, ``not-writable``, with the address that it leads to).
    """

    index: int
    address: Hex
    length: int
    flags: int
    next: int | UnsetType = UNSET
    flag_names: tuple[str, ...] = ()
    table: Hex | None = None
    id: int | UnsetType = UNSET
    guest_address: Hex | Absent | None = None


class BlockRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A virtio-blk request as QEMU holds it (``struct VirtIOBlockReq`` at ``address``).

    Of a ring that vhost runs QEMU has no request: ``kind`` is then ``virtio-blk-header``, and
    ``address`` the guest's, of the header that its driver wrote.

    ``sector`` counts 512-byte sectors, ``length`` bytes of data. ``buffers`` are (address, length)
    of the request's data in QEMU's own memory.
    """

    kind: str
    address: Hex
    operation: str
    type: int | Absent
    sector: int | Absent
    length: int | Absent
    started_ns: int | Absent
    buffers: tuple[Buffer, ...] = ()


class Buffer(msgspec.Struct, frozen=True):
    """A data buffer: its address in the QEMU process and its length in bytes."""

    address: Hex
    length: int


class WorkerThread(msgspec.Struct, frozen=True, omit_defaults=True):
    """The worker thread that serves a request, and the system call that it makes for it.

    ``call`` is the call's name (``preadv`` …), ``offset`` where in the file it reads or writes, in
    bytes; null where the call does not say. ``result`` is what the call had just returned; without
    it the kernel has not returned the call. Of a captured process alone are known: ``name``,
    ``state`` (the letter of /proc/PID/task/TID/stat: ``D`` sleeps uninterruptibly) and ``file``,
    the path of the file that ``fd`` is.
    """

    lwp: int
    call: str
    fd: int
    name: str = ""
    state: str = ""
    file: str = ""
    offset: int | None = None
    result: int | None = None


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a request waits, from the outermost place to the innermost that could be found.

    ``place`` is one of ``tracked-request``, ``throttle``, ``drain-queue``, ``retry-list``,
    ``nbd``, ``linux-aio``, ``io-uring``, ``thread-pool``; an open set. ``node`` is the block
    node's name, ``address`` the structure that says so, ``detail`` the rest in words. ``thread``
    is the thread that serves it, where one was found.
    """

    place: str
    address: Hex
    node: str = ""
    detail: str = ""
    thread: WorkerThread | None = None


class Age(msgspec.Struct, frozen=True):
    """How long a request had been in flight, in nanoseconds.

    ``exact`` is False when only a lower bound is known: print it as ``>= x s``.
    """

    nanoseconds: int
    exact: bool


class InFlight(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that the device took and has not given back.

    ``head`` is the index of its first descriptor, in a packed ring its buffer id
    (``VirtQueueElement.index``). ``source`` tells how it was identified: ``element`` (QEMU's own
    structure), ``inflight_region`` (noted by a vhost-user back-end), ``ring`` (a candidate, of a
    ring that vhost runs: published and not given back, taken or not). ``ndescs``
    is the number of the ring's own descriptors it takes (``VirtQueueElement.ndescs``; always 1 in
    a split ring). ``chain_end`` says how the walk of its descriptors ended (``complete``, ``loop``
    …), or ``overwritten``: a packed ring holds them no more.
    """

    head: int
    source: str
    summary: str
    ndescs: int = 1
    chain_end: str = ""
    descriptors: tuple[Descriptor, ...] | UnsetType = UNSET
    request: BlockRequest | None = None
    waits_in: tuple[Waiting, ...] = ()
    age: Age | Absent | None = None
