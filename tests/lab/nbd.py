"""NBD servers whose requests can be held, and the record of what they hold.

nbdkit's log filter writes a line when a request begins and one when it ends. A server that was
stopped has further requests in its socket, not read yet: those are looked at without consuming
them, through a duplicate of the server's file descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.lab.processes import Children

_BEGIN = re.compile(r" connection=\d+ (\w+) id=(\d+)(.*)$")
_END = re.compile(r" connection=\d+ \.\.\.(\w+) id=(\d+) ")
_NUMBER = re.compile(r" (offset|count)=(0x[0-9a-f]+)")
_PIDFD_GETFD = 438

# NBD protocol, "Request message" and "Request types".
_REQUEST_MAGIC = 0x25609513
_REQUEST = struct.Struct(">IHHQQI")
_WRITE = 1
_COMMANDS = {0: "read", 1: "write", 3: "flush", 4: "trim", 6: "zero"}
_LOGGED = {"Read": "read", "Write": "write", "Flush": "flush", "Trim": "trim", "Zero": "zero"}


@dataclass(frozen=True)
class HeldRequest:
    """A request that the server has and has not answered; offset and length in bytes."""

    type: str
    offset: int
    length: int
    seen_in: str


@dataclass(frozen=True)
class ServerPlan:
    """An nbdkit to be started; `{gate}` in an argument becomes the path of its gate file.

    A plugin may hold requests while the gate file exists. Requests of a memory plugin are held by
    stopping the whole server.
    """

    name: str
    plugin: tuple[str, ...]
    filters: tuple[str, ...] = ()


class NbdServer:
    """One running nbdkit."""

    def __init__(self, plan: ServerPlan, directory: Path, children: Children) -> None:
        self.name = plan.name
        self.socket_path = directory / f"{plan.name}.nbd"
        self.gate = directory / f"{plan.name}.gate"
        self._log = directory / f"{plan.name}.log"
        self._log.touch()
        self._stopped = False
        plugin = [argument.replace("{gate}", str(self.gate)) for argument in plan.plugin]
        command = ["nbdkit", "-f", "-U", str(self.socket_path), "--filter=log"]
        command += [f"--filter={name}" for name in plan.filters]
        self._process = children.start(
            [*command, *plugin, f"logfile={self._log}"], directory / f"{plan.name}.out"
        )
        self._wait_until_listening(directory / f"{plan.name}.out")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The nbdkit process."""
        return self._process

    def stop(self) -> None:
        """Freezes the server: nothing is answered from now on."""
        os.kill(self._process.pid, signal.SIGSTOP)
        self._stopped = True

    def resume(self) -> None:
        """Lets a frozen server go on."""
        self._stopped = False
        os.kill(self._process.pid, signal.SIGCONT)

    def close_gate(self) -> None:
        """Tells a plugin that looks at its gate to hold requests."""
        self.gate.touch()

    def open_gate(self) -> None:
        """Lets held requests go on."""
        self.gate.unlink(missing_ok=True)

    def held(self) -> list[HeldRequest]:
        """The requests that are unanswered now, in order of arrival."""
        return [*self._logged(), *(self._unread() if self._stopped else [])]

    def describe(self) -> dict[str, Any]:
        """The record kept in server.json."""
        return {"name": self.name, "held": [asdict(request) for request in self.held()]}

    def completed(self) -> int:
        """How many requests have been answered so far."""
        return sum(_END.search(line) is not None for line in self._log.read_text().splitlines())

    def _wait_until_listening(self, output: Path) -> None:
        deadline = time.monotonic() + 20
        while not self.socket_path.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nbdkit did not start: {output.read_text()}")
            time.sleep(0.05)
        self.socket_path.chmod(0o777)  # QEMU may run as another user

    def _logged(self) -> list[HeldRequest]:
        begun: dict[str, HeldRequest] = {}
        for line in self._log.read_text().splitlines():
            ended = _END.search(line)
            if ended is not None:
                begun.pop(ended[2], None)
                continue
            started = _BEGIN.search(line)
            if started is not None and started[1] in _LOGGED:
                begun[started[2]] = _logged_request(started[1], started[3])
        return list(begun.values())

    def _unread(self) -> list[HeldRequest]:
        return [request for stream in self._peek() for request in self._requests_in(stream)]

    def _requests_in(self, stream: bytes) -> Iterator[HeldRequest]:
        position = max(stream.find(_REQUEST_MAGIC.to_bytes(4, "big")), 0)
        while position + _REQUEST.size <= len(stream):
            magic, _, command, _, offset, length = _REQUEST.unpack_from(stream, position)
            if magic != _REQUEST_MAGIC:
                raise RuntimeError(f"{self.name}: no NBD request at byte {position} of the socket")
            yield HeldRequest(_COMMANDS[command], offset, length, "socket")
            position += _REQUEST.size + (length if command == _WRITE else 0)

    def _peek(self) -> list[bytes]:
        """What lies unread in each connection: nbdfuse has several."""
        streams = []
        for connection in _connections(self._process.pid):
            with connection, contextlib.suppress(BlockingIOError):
                streams.append(connection.recv(1 << 22, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return streams


def _logged_request(command: str, rest: str) -> HeldRequest:
    numbers = {name: int(value, 16) for name, value in _NUMBER.findall(rest)}
    return HeldRequest(_LOGGED[command], numbers.get("offset", 0), numbers.get("count", 0), "log")


def _connections(pid: int) -> list[socket.socket]:
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    found = []
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                continue
            copy = libc.syscall(_PIDFD_GETFD, process, int(name), 0)
            if copy < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd")
            duplicate = socket.socket(fileno=copy)
            if duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                duplicate.close()
            else:
                found.append(duplicate)
    finally:
        os.close(process)
    return found
