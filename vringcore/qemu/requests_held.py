"""Where the device models of QEMU keep the elements that they took from their rings.

One function for each type of device: it yields what it finds, and is stopped by an error. Devices
that give an element back in the same call (entropy, memory, IOMMU, input) keep none. What the
back-end of a device holds in structures of its own only the search finds (``requests_search``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import CorruptDataError
from vringcore.model.requests import Waiting
from vringcore.model.values import Address, Fields
from vringcore.qemu import element_structs as s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.model.values import Absent
    from vringcore.qemu.process import Process
    from vringcore.view.declare import View
    from vringcore.view.views import Views

MAX_QUEUE_PAIRS = 512
"""QEMU has 1,024 queues for a device."""

MAX_PORTS = 1024
MAX_HELD = 10_000
MAX_STREAMS = 1024

MAIN_LOOP = ("qemu_aio_context", "util/main-loop.c")
"""Where the main loop's AioContext is named, and the file that does."""


class Held(msgspec.Struct):
    """An element that a device model keeps.

    :param element: address of the VirtQueueElement
    :param queue: address of the VirtQueue that it was taken from
    :param owner: address of the structure that stands for the request
    :param c_type: that structure's type
    :param qemu: its members worth showing, under their C names
    :param length: bytes of data, where QEMU says how many
    """

    element: int
    queue: int
    owner: int
    c_type: str
    qemu: Fields = msgspec.field(default_factory=dict)
    waits_in: tuple[Waiting, ...] = ()
    started_ns: int | Absent | None = None
    length: int | None = None


def _net(process: Process, device: int) -> Iterator[Held]:
    """A packet that the peer did not take: virtio_net_flush_tx() goes on when it does."""
    views = process.views
    net = views.at(s.VirtIONet, device)
    size = views.binding(s.VirtIONetQueue).type.size
    for index in range(min(net.max_queue_pairs, MAX_QUEUE_PAIRS)):
        queue = views.at(s.VirtIONetQueue, net.vqs + index * size)
        if queue.async_elem:
            place = Waiting(
                "net-peer",
                Address(queue.address_),
                detail="the network back-end has not taken the packet",
            )
            yield _plain(queue.async_elem, queue.tx_vq, (place,))


def _console(process: Process, device: int) -> Iterator[Held]:
    """Output that the character device has taken in part (``VirtIOSerialPort.elem``)."""
    views = process.views
    head = views.at(s.VirtIOSerial, device).ports
    for port in views.elements(head, s.VirtIOSerialPort, "next", limit=MAX_PORTS):
        if not port.elem:
            continue
        detail = "the character device takes no more" if port.throttled else "partly written"
        held = _plain(
            port.elem, port.ovq, (Waiting("chardev", Address(port.address_), detail=detail),)
        )
        held.qemu = {
            "port": port.id_,
            "iov_idx": port.iov_idx,
            "iov_offset": port.iov_offset,
            "throttled": port.throttled,
            "host_connected": port.host_connected,
        }
        yield held


def _balloon(process: Process, device: int) -> Iterator[Held]:
    """The statistics, which are given back when new ones are wanted: never a sign of trouble."""
    balloon = process.views.at(s.VirtIOBalloon, device)
    if balloon.stats_vq_elem:
        place = Waiting("next-query", Address(device), detail="kept until new ones are wanted")
        yield _plain(balloon.stats_vq_elem, balloon.svq, (place,))


def _gpu(process: Process, device: int) -> Iterator[Held]:
    """Commands not yet begun (``cmdq``), and those whose fence has not come (``fenceq``)."""
    views = process.views
    gpu = views.at(s.VirtIOGPU, device)
    for head, place, detail in (
        (gpu.cmdq, "gpu-commands", "not yet begun, or begun and blocked"),
        (gpu.fenceq, "gpu-fences", "until the renderer has come to its fence"),
    ):
        for command in views.elements(head, s.GpuCommand, "next", limit=MAX_HELD):
            own: Fields = {
                "fence_id": command.fence_id,
                "error": command.error,
                "finished": command.finished,
            }
            yield _embedded(command, command.elem, command.vq, own, place, detail)


def _crypto(process: Process, device: int) -> Iterator[Held]:
    """Operations that a limit of the back-end holds back (``CryptoDevBackend.opinfos``)."""
    views = process.views
    backend = views.at(s.CryptoDevBackend, views.at(s.VirtIOCrypto, device).cryptodev)
    if backend.opinfos is None:
        return
    view = s.VirtIOCryptoReq
    inside = views.offset(view.c_type, "op_info", view.unit)
    link = views.offset(view.c_type, "op_info.next", view.unit) - inside
    from vringcore.view.lists import walk

    for address in walk(
        views.pointer(backend.opinfos),
        lambda info: views.pointer(info + link),
        what="of crypto operations that are held back",
        limit=MAX_HELD,
    ):
        request = views.at(view, address - inside)
        _belongs(request, request.vcrypto, device)
        own: Fields = {"op_code": request.op_code, "session_id": request.session_id}
        yield _embedded(
            request, request.elem, request.vq, own, "crypto-backend", "held back by its limit"
        )


def _sound(process: Process, device: int) -> Iterator[Held]:
    """Control commands, and the buffers of streams that were not played or filled yet."""
    views = process.views
    sound = views.at(s.VirtIOSound, device)
    for command in views.elements(sound.cmdq, s.SoundCommand, "next", limit=MAX_HELD):
        place = Waiting("sound-commands", Address(command.address_))
        yield Held(
            command.elem,
            command.vq,
            command.address_,
            "virtio_snd_ctrl_command",
            waits_in=(place,),
        )
    yield from _samples(views, sound.invalid, "of no stream")
    if not sound.pcm:
        return
    streams = views.at(s.VirtIOSoundPCM, sound.pcm).streams
    for index in range(min(sound.streams, MAX_STREAMS) if streams else 0):
        address = views.pointer(streams + index * views.pointer_size)
        if address:
            stream = views.at(s.VirtIOSoundPCMStream, address)
            state = "active" if stream.active else "not active"
            yield from _samples(views, stream.queue, f"stream {stream.id_}, {state}")


def _samples(views: Views, head: int, whose: str) -> Iterator[Held]:
    for buffer in views.elements(head, s.VirtIOSoundPCMBuffer, "entry", limit=MAX_HELD):
        yield Held(
            buffer.elem,
            buffer.vq,
            buffer.address_,
            "VirtIOSoundPCMBuffer",
            {"size": buffer.size, "offset": buffer.offset, "populated": buffer.populated},
            (Waiting("sound-stream", Address(buffer.address_), detail=whose),),
        )


def _persistent_memory(process: Process, device: int) -> Iterator[Held]:
    """Flushes that a worker thread of the main loop makes: its argument is the request."""
    from vringcore.qemu.aio_structs import AioContext
    from vringcore.qemu.engines import pool_elements

    views = process.views
    context = views.pointer(views.address_of(*MAIN_LOOP))
    pool = views.at(AioContext, context).thread_pool
    for element, state in pool_elements(views, pool) if pool else ():
        if not element.argument or element.argument != element.opaque:
            continue  # of a coroutine, which has a ThreadPoolCo of its own
        try:
            request = views.at(s.VirtIOPMEMRequest, element.argument)
            mine = request.vdev == device
        except CorruptDataError:
            continue
        if mine:
            queue = views.at(s.VirtIOPMEM, device).rq_vq
            own: Fields = {"fd": request.fd}
            yield _embedded(request, request.elem, queue, own, "thread-pool", state)


def _plain(element: int, queue: int, waits_in: tuple[Waiting, ...]) -> Held:
    return Held(element, queue, element, "VirtQueueElement", waits_in=waits_in)


def _embedded(owner: View, element: int, queue: int, own: Fields, place: str, detail: str) -> Held:
    waiting = Waiting(place, Address(owner.address_), detail=detail)
    c_type = owner.c_type.partition(" ")[2]
    return Held(element, queue, owner.address_, c_type, own, (waiting,))


def _belongs(owner: View, named: int, device: int) -> None:
    if named != device:
        raise CorruptDataError(
            "a list of requests leads to something that is none of this device's",
            where=f"{owner.address_:#x}",
            seen=f"{named:#x}",
            expected=f"{device:#x}",
            hint="the core may have been taken while the list was changed",
        )


def _scsi(process: Process, device: int) -> Iterator[Held]:
    from vringcore.qemu.requests_scsi import scsi_requests

    return scsi_requests(process, device)


def _plan9(process: Process, device: int) -> Iterator[Held]:
    from vringcore.qemu.requests_plan9 import messages

    return messages(process, device)


HOLDERS: dict[str, Callable[[Process, int], Iterator[Held]]] = {
    "virtio-scsi-device": _scsi,
    "virtio-net-device": _net,
    "virtio-serial-device": _console,
    "virtio-balloon-device": _balloon,
    "virtio-9p-device": _plan9,
    "virtio-gpu-device": _gpu,
    "virtio-crypto-device": _crypto,
    "virtio-sound-device": _sound,
    "virtio-pmem": _persistent_memory,
}
"""By QOM type, what finds the elements that such a device keeps."""
