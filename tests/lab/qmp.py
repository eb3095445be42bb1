"""A small client of QEMU's monitor protocol, with a time limit on every answer."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any


class MonitorSilentError(RuntimeError):
    """The monitor did not answer within the time limit."""


class MonitorRefusedError(RuntimeError):
    """The monitor answered a command with an error."""


class Monitor:
    """One QMP connection."""

    def __init__(self, path: Path, patience: float = 30.0) -> None:
        self._socket = _connect(path, patience)
        self._buffer = b""
        self._receive(patience)
        self.execute("qmp_capabilities")

    def execute(self, command: str, seconds: float = 20.0, **arguments: Any) -> Any:
        """The command's "return" value; events arriving before it are dropped."""
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._receive(seconds)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise MonitorRefusedError(f"{command}: {answer['error']['desc']}")

    def knows(self, command: str) -> bool:
        """Whether this QEMU has a command of this name."""
        return any(known["name"] == command for known in self.execute("query-commands"))

    def human(self, line: str) -> str:
        """What the human monitor prints for a command line."""
        arguments: dict[str, Any] = {"command-line": line}
        return str(self.execute("human-monitor-command", **arguments))

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def _receive(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                piece = self._socket.recv(1 << 20)
            except TimeoutError:
                raise MonitorSilentError(f"no answer within {seconds} s") from None
            if not piece:
                raise MonitorSilentError("QEMU closed the monitor connection")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def _connect(path: Path, patience: float) -> socket.socket:
    deadline = time.monotonic() + patience
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
