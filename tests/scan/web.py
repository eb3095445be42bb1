"""A web server on loopback, with or without ranges, that counts what it sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE = 1 << 16


class Web(ThreadingHTTPServer):
    """Serves the files of a directory.

    :ivar ranges: whether it gives a part that is asked for, or always all
    :ivar tells_size: whether it says how large a file is
    :ivar sent: bytes of files sent so far
    """

    daemon_threads = True

    def __init__(self, directory: Path, *, ranges: bool, tells_size: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.directory = directory
        self.ranges = ranges
        self.tells_size = tells_size
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.server.directory / self.path.lstrip("/")
        if self.path.startswith("/secret"):
            self.send_error(403)
            return
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = self.headers.get("Range", "")
        if self.server.ranges and asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else len(data)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            data = data[start:end]
        else:
            self.send_response(200)
        if self.server.tells_size:
            self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", "Tue, 03 Nov 2026 10:00:00 GMT")
        self.end_headers()
        for at in range(0, len(data) if body else 0, PIECE):
            try:
                self.wfile.write(data[at : at + PIECE])
            except ConnectionError:
                return  # who asked has enough
            self.server.sent += PIECE

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def web(directory: Path, *, ranges: bool = True, tells_size: bool = True) -> Iterator[Web]:
    """Serve a directory for the block."""
    server = Web(directory, ranges=ranges, tells_size=tells_size)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
