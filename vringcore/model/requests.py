"""Requests in flight."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.values import Absent, Fields, Hex


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
    of the request's data in QEMU's own memory. ``segments`` are the ranges of a discard, of writing
    zeroes or of a secure erase, which are in its data (VirtIO 1.3, 5.2.6).
    """

    kind: str
    address: Hex
    operation: str
    type: int | Absent
    sector: int | Absent
    length: int | Absent
    started_ns: int | Absent
    buffers: tuple[Buffer, ...] = ()
    segments: tuple[Segment, ...] | Absent = ()


class Segment(msgspec.Struct, frozen=True):
    """A range of a disk: its first 512-byte sector, how many, and flags (bit 0: unmap)."""

    sector: int
    num_sectors: int
    flags: int


class DeviceRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request of a device that is no virtio-blk.

    :param kind: the device's kind: ``virtio-scsi``, ``virtio-net`` …
    :param address: of QEMU's structure that holds it, of type ``c_type``
    :param element: of its VirtQueueElement
    :param operation: what is asked: ``read(10)``, ``transmit``, ``resource-flush`` …
    :param header: the request's header as the driver wrote it, under the names of the specification
        (VirtIO 1.3, chapter 5); absent if it cannot be read
    :param length: bytes of data: what the command says if it is SCSI's, otherwise what the device
        may read behind the header, or if that is nothing, what it may write; of a request that is
        all header, that
    :param lengths: bytes: ``readable`` (what the device may read), of them ``header``, and
        ``writable`` (what it may write)
    :param short: the request ends before its header does
    :param qemu: members of QEMU's own request, under their C names: of a ``SCSIRequest``, a
        ``V9fsPDU``; empty where QEMU keeps nothing but the element
    :param started_ns: when QEMU began it, by the host's monotonic clock
    :param buffers: in QEMU's memory: what the device may read behind the header
    :param buffers_in: in QEMU's memory: what the device may write, behind its answer if that comes
        first, as a SCSI host's does
    """

    kind: str
    address: Hex
    c_type: str
    element: Hex
    operation: str | Absent
    header: Fields | Absent
    length: int | Absent
    lengths: dict[str, int]
    short: bool = False
    qemu: Fields = {}
    started_ns: int | Absent | None = None
    buffers: tuple[Buffer, ...] = ()
    buffers_in: tuple[Buffer, ...] = ()


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
    ``nbd``, ``linux-aio``, ``io-uring``, ``thread-pool``, and, of other devices than disks,
    ``net-peer``, ``chardev``, ``next-query``, ``plan9``, ``gpu-commands``, ``gpu-fences``,
    ``crypto-backend``, ``sound-commands``, ``sound-stream``; an open set. ``node`` is the block
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
    …), or ``overwritten``: a packed ring holds them no more. ``payload`` is given only on demand:
    the first bytes of the request's data as hex digits, which are the guest's.
    """

    head: int
    source: str
    summary: str
    ndescs: int = 1
    chain_end: str = ""
    descriptors: tuple[Descriptor, ...] | UnsetType = UNSET
    request: BlockRequest | DeviceRequest | None = None
    waits_in: tuple[Waiting, ...] = ()
    age: Age | Absent | None = None
    payload: str | Absent | None = None
