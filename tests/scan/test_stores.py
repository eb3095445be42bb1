"""Cores in stores: read by range, and what was read is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import vringcore
from tests.cli.command import vringcore as command
from tests.scan import cores
from tests.scan.cores import CODES, member
from tests.scan.web import web
from vringcore.errors import EXIT_PARTIAL, UsageError

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


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A directory with a core of 64 MiB, a small packed one, and a tar archive of two."""
    directory = tmp_path / "fleet"
    cores.copies(directory, ["7.2/stuck-migration"])
    (directory / "large.core").write_bytes(padded(cores.unpacked("10.0/stuck")))
    cores.tar(directory / "a.tar", ["10.0/stuck", "10.0/idle"], raw=True)
    return directory


WEB = ["large.core", member("7.2/stuck-migration"), "a.tar"]
WEB_VERDICTS = sorted(
    [
        ("large.core", CODES["10.0/stuck"]),
        (member("7.2/stuck-migration"), CODES["7.2/stuck-migration"]),
        (member("10.0/stuck"), CODES["10.0/stuck"]),
        (member("10.0/idle"), CODES["10.0/idle"]),
    ]
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_http(fleet: Path, ranges: bool) -> None:
    """By range little is read; without ranges all, once, and never more than what is told."""
    pytest.importorskip("aiohttp", reason="pip install aiohttp")
    with (
        web(fleet, ranges=ranges) as server,
        vringcore.scan(*(f"{server.url}/{n}" for n in WEB), workers=1, cache=False) as found,
    ):
        rows = list(found)
    assert verdicts(rows) == WEB_VERDICTS
    (large,) = (row for row in rows if row.path.endswith("large.core"))
    assert large.modified == "2026-11-03T10:00:00.000Z"
    if ranges:
        assert 0 < large.cost.bytes_read < large.size / 50
        assert server.sent < large.size / 4
    else:
        assert 0 < large.cost.bytes_read <= large.size


@pytest.mark.filterwarnings("ignore")
def test_http_from_a_server_that_tells_no_size(fleet: Path) -> None:
    pytest.importorskip("aiohttp", reason="pip install aiohttp")
    with (
        web(fleet, ranges=False, tells_size=False) as server,
        vringcore.scan(f"{server.url}/large.core", workers=1, cache=False) as found,
    ):
        (row,) = found
    assert verdicts([row]) == [("large.core", CODES["10.0/stuck"])]


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_had_from_the_web_is_a_row(fleet: Path) -> None:
    """404, 403, a server that is not there, a name that is none: the rest is scanned."""
    pytest.importorskip("aiohttp", reason="pip install aiohttp")
    with web(fleet) as gone:
        nobody = f"{gone.url}/x"
    with web(fleet) as server:
        words = [f"{server.url}/nothing", f"{server.url}/secret", nobody, "http://host.invalid/x"]
        words.append(f"{server.url}/{WEB[1]}")
        with vringcore.scan(*words, workers=1, cache=False) as found:
            rows = {row.path: row for row in found}
    assert set(rows) == set(words)
    for word, reason in zip(words, ("404", "403", "onnect", "host.invalid"), strict=False):
        error = rows[word].error
        assert error is not None
        assert error.code == "file"
        assert reason in error.message
    assert rows[words[-1]].error is None


@pytest.mark.filterwarnings("ignore")
def test_the_verb_on_what_is_not_there(fleet: Path) -> None:
    pytest.importorskip("aiohttp", reason="pip install aiohttp")
    with web(fleet) as server:
        run = command("scan", f"{server.url}/nothing", "--no-cache")
    assert run.returncode == EXIT_PARTIAL
    assert run.stderr == ""
    assert "1 of them could not be read" in run.stdout


@pytest.mark.filterwarnings("ignore")
def test_sftp(fleet: Path) -> None:
    """A directory of it by range; what may not be read, and what is not there, are rows."""
    pytest.importorskip("paramiko", reason="pip install paramiko")
    from tests.scan.sftp import sftp

    (fleet / "secret").write_bytes(b"not for everybody")
    root = "sftp://127.0.0.1"
    with sftp(fleet) as server:
        words = [f"{root}/", f"{root}/nothing"]
        with vringcore.scan(*words, workers=1, cache=False, storage=server.storage) as found:
            rows = list(found)
            assert found.skipped == {"no core": 1}
        sent = server.sent
    errors = {row.path: row.error.message for row in rows if row.error}
    assert set(errors) == {f"{root}/nothing", f"{root}/secret"}
    assert "No such file" in errors[f"{root}/nothing"]
    assert "Permission denied" in errors[f"{root}/secret"]
    rows = [row for row in rows if row.error is None]
    assert verdicts(rows) == WEB_VERDICTS
    assert {row.path for row in rows} == {f"{root}/{name}" for name in WEB}
    (large,) = (row for row in rows if row.path.endswith("large.core"))
    assert 0 < large.cost.bytes_read < large.size / 50
    assert sent < large.size / 4
    assert all(row.modified is not None for row in rows)


@pytest.mark.filterwarnings("ignore")
def test_sftp_that_lets_nobody_in(fleet: Path) -> None:
    pytest.importorskip("paramiko", reason="pip install paramiko")
    from tests.scan.sftp import sftp

    with sftp(fleet) as server:
        wrong = [{**server.storage, "password": "no"}, {**server.storage, "port": 1}]
        for storage, reason in zip(wrong, ("Authentication failed", "port 1"), strict=True):
            with vringcore.scan("sftp://127.0.0.1/", workers=1, storage=storage) as found:
                (row,) = found
            assert row.error is not None
            assert row.error.code == "file"
            assert reason in row.error.message


def test_a_password_in_a_url_is_refused() -> None:
    """It would stand in the path of every row."""
    for url in ("sftp://me:secret@host/x", "https://me:secret@host/x"):
        with pytest.raises(UsageError, match="password") as caught:
            vringcore.scan(url)
        assert "secret" not in str(caught.value)


def test_a_store_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="store"):  # before any work is done
        vringcore.scan("nosuch://bucket/x", workers=1)
