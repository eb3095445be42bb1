"""An SFTP server on loopback that serves a directory and counts what it sends."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paramiko

USER, PASSWORD = "fleet", "open sesame"


class Sftp:
    """The server.

    :ivar sent: bytes of files sent so far
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sent = 0
        self.key = paramiko.ECDSAKey.generate()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[paramiko.Transport] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def storage(self) -> dict[str, Any]:
        """What opens it, as --storage gives it."""
        port = self._listening.getsockname()[1]
        return {"port": port, "username": USER, "password": PASSWORD, "look_for_keys": False}

    def close(self) -> None:
        self._listening.close()
        for transport in self._open:
            transport.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                transport = paramiko.Transport(connection)
                self._open.append(transport)
                transport.add_server_key(self.key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files, self)
                with suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=_Door())


class _Door(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:
        known = (username, password) == (USER, PASSWORD)
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_channel_request(self, _kind: str, _number: int) -> int:
        return paramiko.OPEN_SUCCEEDED


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, _door: _Door, sftp: Sftp) -> None:
        self._sftp = sftp

    def _path(self, path: str) -> Path:
        return self._sftp.directory / path.lstrip("/")

    def list_folder(self, path: str) -> Any:
        try:
            names = sorted(os.listdir(self._path(path)))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)
        return [_facts(self._path(path) / name) for name in names]

    def stat(self, path: str) -> Any:
        try:
            return _facts(self._path(path))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    lstat = stat

    def open(self, path: str, flags: int, _attributes: Any) -> Any:
        if path.endswith("secret"):
            return paramiko.SFTP_PERMISSION_DENIED
        try:
            file = self._path(path).open("rb")
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)
        return _Handle(file, flags, self._sftp)


class _Handle(paramiko.SFTPHandle):
    def __init__(self, file: Any, flags: int, sftp: Sftp) -> None:
        super().__init__(flags)
        self.readfile = file
        self._sftp = sftp

    def read(self, offset: int, length: int) -> Any:
        data = super().read(offset, length)
        self._sftp.sent += len(data) if isinstance(data, bytes) else 0
        return data

    def stat(self) -> Any:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


def _facts(path: Path) -> paramiko.SFTPAttributes:
    return paramiko.SFTPAttributes.from_stat(path.lstat(), path.name)


@contextmanager
def sftp(directory: Path) -> Iterator[Sftp]:
    """Serve a directory for the block."""
    server = Sftp(directory)
    try:
        yield server
    finally:
        server.close()
