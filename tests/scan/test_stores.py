"""Cores in stores: read by range, and what was read is counted."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

import vringcore
from tests.scan import cores
from tests.scan.cores import CODES, member

pytest.importorskip("pebble", reason="pip install 'vringcore[scan]'")
pytest.importorskip("fsspec", reason="pip install 'vringcore[scan]'")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vringcore.model.scan import ScanRow

PADDING = 64 << 20
"""Bytes of a guest's memory that is in the core and that nobody asks for."""


def padded(data: bytes) -> bytes:
    """Return a core with a large segment more, as a core with guest memory has one."""
    return data + bytes(PADDING)


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    """Run a server of S3's protocol on loopback; give what opens it."""
    pytest.importorskip("s3fs", reason="pip install s3fs")
    server_module = pytest.importorskip(
        "moto.server", reason="pip install 'moto[server]'", exc_type=ImportError
    )
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {"endpoint_url": f"http://{host}:{port}", "key": "test", "secret": "test"}
    server.stop()


def verdicts(rows: list[ScanRow]) -> list[tuple[str, str]]:
    assert all(row.error is None for row in rows), [row.error for row in rows if row.error]
    return sorted(
        (row.member or row.path.rsplit("/", 1)[-1], row.verdict.code) for row in rows if row.verdict
    )


@pytest.mark.filterwarnings("ignore")
def test_s3_by_range(s3: dict[str, str], tmp_path: Path) -> None:
    """Of a core of 64 MiB little is read; members of a tar are read where they lie."""
    import s3fs

    names = ["10.0/stuck", "7.2/stuck-migration"]
    store = s3fs.S3FileSystem(**s3)
    store.mkdir("fleet")
    for name in names:
        store.pipe_file(f"fleet/cores/{member(name)}", padded(cores.unpacked(name)))
    tar = cores.tar(tmp_path / "a.tar", names, raw=True)
    store.pipe_file("fleet/archive/a.tar", tar.read_bytes())
    store.pipe_file("fleet/cores/notes.txt", b"no core")
    expected = [(member(name), CODES[name]) for name in names]

    with vringcore.scan("s3://fleet/cores", workers=1, cache=False, storage=s3) as found:
        rows = list(found)
        assert found.skipped == {"no core": 1}
    assert verdicts(rows) == expected
    for row in rows:
        assert row.size > PADDING
        assert 0 < row.cost.bytes_read < row.size / 50
        assert row.modified is not None

    with vringcore.scan("s3://fleet/archive/*.tar", workers=1, cache=False, storage=s3) as found:
        rows = list(found)
    assert verdicts(rows) == expected


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.mark.filterwarnings("ignore")
def test_http_from_a_server_without_ranges(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="pip install aiohttp")
    cores.copies(tmp_path, ["10.0/stuck"])
    handler = partial(Quiet, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{member('10.0/stuck')}"
    with vringcore.scan(url, workers=1, cache=False) as found:
        rows = list(found)
    server.shutdown()
    server.server_close()
    assert verdicts(rows) == [(member("10.0/stuck"), CODES["10.0/stuck"])]


def test_a_store_that_is_not_there() -> None:
    from vringcore.errors import VringcoreError

    with (
        pytest.raises(VringcoreError, match="store"),
        vringcore.scan("nosuch://bucket/x", workers=1) as found,
    ):
        list(found)
