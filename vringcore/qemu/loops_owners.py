"""What the file descriptors are that event loops watch.

A handler is called with ``opaque``, and that tells who watches: the notifier of a queue or of a
loop, a channel of QEMU's own I/O layer. A descriptor alone does not, for a closed one's number may
still be where it was kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.model.loops import QueueNotifier
from vringcore.qemu.loop_structs import (
    ConfigNotifier,
    EventLoopContext,
    LinuxAioNotifier,
    QIOChannelSocket,
    QueueNotifiers,
)

if TYPE_CHECKING:
    from vringcore.qemu.devices import Devices, RawDevice
    from vringcore.qemu.loop_structs import AioHandler
    from vringcore.qemu.process import Process

HOST_NOTIFIER = "host-notifier"
GUEST_NOTIFIER = "guest-notifier"

AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
MAX_SOCKET_ADDRESS = 128
"""``sizeof(struct sockaddr_storage)``."""

LINUX_AIO = "completions of linux-aio (eventfd)"

_CALLBACKS = {
    "sigfd_handler": "signals (signalfd)",
    "vhost_virtqueue_error_notifier": "errors that a vhost back-end tells of (eventfd)",
    "tap_send": "network tap",
    "qemu_laio_completion_cb": LINUX_AIO,
    "qemu_luring_completion_cb": "completions of io_uring",
    "nbd_read": "NBD client",
}
"""Descriptors of which only the function that is called tells what they are."""

Owner = tuple[str, QueueNotifier | None]


class Owners:
    """Tells whose the descriptors are."""

    def __init__(self, process: Process, devices: Devices) -> None:
        self._views = process.views
        self._objects = process.objects
        self._places: dict[int, Owner] = {}
        self.problem: VringcoreError | None = None
        for index, device in enumerate(devices.raw):
            try:
                self._add_device(index, devices.name(index), device)
            except VringcoreError as error:
                self.problem = self.problem or error

    def add_loop(self, loop: EventLoopContext, name: str) -> None:
        """Add what an event loop itself watches."""
        try:
            self._places[loop.notifier] = (f"wake-ups of the event loop {name} (eventfd)", None)
            if loop.linux_aio:
                notifier = self._views.at(LinuxAioNotifier, loop.linux_aio).e
                self._places[notifier] = (LINUX_AIO, None)
        except VringcoreError as error:
            self.problem = self.problem or error

    def of(self, handler: AioHandler, callback: object) -> Owner:
        """Return what a handler's descriptor is, "" if that is not known.

        :param callback: the name of the function that reads from it
        """
        known = self._places.get(handler.opaque)
        if known is not None:
            return known
        if isinstance(callback, str) and callback in _CALLBACKS:
            return _CALLBACKS[callback], None
        try:
            return self._channel(handler.opaque), None
        except VringcoreError:
            return "", None  # opaque is whatever its owner likes, and need not be an address

    def _add_device(self, index: int, called: str, device: RawDevice) -> None:
        views = self._views
        config = views.at(ConfigNotifier, device.address).config_notifier
        if config is not None:
            name = f"configuration changes of {called} (eventfd)"
            self._places[config] = (name, None)
        for queue in device.queues:
            notifiers = views.at(QueueNotifiers, queue.view.address_)
            for place, side, what in (
                (notifiers.host_notifier, HOST_NOTIFIER, "kicks"),
                (notifiers.guest_notifier, GUEST_NOTIFIER, "interrupts"),
            ):
                name = f"{what} of queue {queue.index} of {called}"
                joined = QueueNotifier(index, queue.index, side)
                self._places[place] = (f"{name} (eventfd)", joined)

    def _channel(self, address: int) -> str:
        """Return what a QIOChannel is; "" if no object lies there.

        :raises VringcoreError: if it cannot be read
        """
        kind = self._objects.type_name(address) if address else None
        if kind is None:
            return ""
        if self._objects.is_a(address, "qio-channel-socket"):
            return self._socket(address)
        return kind

    def _socket(self, address: int) -> str:
        socket = self._views.at(QIOChannelSocket, address)
        remote = self._address(socket.remote_address, socket.remote_length)
        local = self._address(socket.local_address, socket.local_length)
        if remote:
            return f"socket connected to {remote}"
        return f"socket at {local}" if local else "socket"

    def _address(self, place: int, length: int) -> str:
        """Return a ``sockaddr`` in words: a path, or address and port; "" for one without."""
        size = min(length, MAX_SOCKET_ADDRESS)
        data = self._views.space.read(HostAddress(place), size)
        return socket_address(data, big_endian=self._views.layouts.big_endian)


def socket_address(data: bytes, *, big_endian: bool = False) -> str:
    """Return a ``struct sockaddr`` in words: a path, ``@NAME``, ``HOST:PORT``; "" for no such one.

    Ports and addresses are in network order (unix(7), ip(7), ipv6(7)).
    """
    family = int.from_bytes(data[:2], "big" if big_endian else "little")
    if family == AF_UNIX:
        path = data[2:]
        name = path[1:] if path[:1] == b"\0" else path.split(b"\0", 1)[0]
        text = name.decode("utf-8", "backslashreplace")
        return f"@{text}" if path[:1] == b"\0" and text else text
    port = int.from_bytes(data[2:4], "big")
    if family == AF_INET and len(data) >= 8:
        return ".".join(str(byte) for byte in data[4:8]) + f":{port}"
    if family == AF_INET6 and len(data) >= 24:
        groups = (data[at : at + 2].hex() for at in range(8, 24, 2))
        return f"[{':'.join(group.lstrip('0') or '0' for group in groups)}]:{port}"
    return ""
