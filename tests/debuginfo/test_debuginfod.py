"""debuginfod: its clients' cache, and its protocol with a server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.debuginfo.conftest import Build
from tests.debuginfo.reading import layouts_of
from tests.synth.programs import BUILD_ID, SPLIT, Variant
from vringcore.cli.main import main
from vringcore.debuginfo.find import find_debug_file, find_executable

APART = Variant("gcc-apart", steps=SPLIT)

Apart = tuple[Path, Path]


class Server:
    """A server on this machine. ``asked`` are the paths of the requests."""

    def __init__(self, handler: object) -> None:
        self.asked: list[str] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
        self.http.asked = self.asked  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


class Files(SimpleHTTPRequestHandler):
    """Serves a directory."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()

    def log_message(self, *_args: object) -> None:
        pass


class Promises(BaseHTTPRequestHandler):
    """Promises more than it sends, or sends on to a file."""

    def do_GET(self) -> None:
        if self.path.startswith("/on/"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000" if self.path.startswith("/short/") else "10" * 9)
        self.end_headers()
        self.wfile.write(b"\x7fELF")

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of debuginfod's clients."""
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def apart(build: Build, tmp_path: Path) -> Apart:
    """Return a stripped program alone in a directory, and its debug file."""
    program = build(APART)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "program").write_bytes(program.read_bytes())
    return tmp_path / "bin" / "program", Path(f"{program}.debug")


@pytest.fixture
def served(tmp_path: Path, apart: Apart) -> Iterator[Server]:
    """Serve the program and its debug file by build-id."""
    place = tmp_path / "served" / "buildid" / BUILD_ID
    place.mkdir(parents=True)
    (place / "debuginfo").write_bytes(apart[1].read_bytes())
    (place / "executable").write_bytes(apart[0].read_bytes())
    server = Server(partial(Files, directory=str(tmp_path / "served")))
    yield server
    server.close()


@pytest.fixture
def liar() -> Iterator[Server]:
    """Serve what is not to be trusted."""
    server = Server(Promises)
    yield server
    server.close()


def test_nothing_is_fetched_unless_asked(
    cache: Path, apart: Apart, served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBUGINFOD_URLS", served.url)
    assert find_debug_file(BUILD_ID, str(apart[0])).path == ""
    assert find_executable(BUILD_ID, "/gone").path == ""
    assert served.asked == []
    assert not cache.exists()


def test_what_was_fetched_is_kept_and_found_again(
    cache: Path, apart: Apart, served: Server
) -> None:
    layouts = layouts_of(apart[0], debug_dirs=[served.url])
    assert layouts.definition("struct VirtQueue", ("queue.c",))
    found = find_executable(BUILD_ID, "/gone", debug_dirs=[f"{served.url}/"])
    assert found.path == str(cache / BUILD_ID / "executable")
    assert served.asked == [f"/buildid/{BUILD_ID}/{kind}" for kind in ("debuginfo", "executable")]
    # Without a server now.
    assert find_debug_file(BUILD_ID, str(apart[0])).path == str(cache / BUILD_ID / "debuginfo")
    assert sorted(p.name for p in (cache / BUILD_ID).iterdir()) == ["debuginfo", "executable"]


def test_the_next_server_is_asked(cache: Path, apart: Apart, served: Server, liar: Server) -> None:
    places = [f"{liar.url}/short", "http://127.0.0.1:1/", served.url]
    found = find_debug_file(BUILD_ID, str(apart[0]), debug_dirs=places)
    assert found.path == str(cache / BUILD_ID / "debuginfo")
    assert any("ends after 4 of 1000 bytes" in line for line in found.log)
    assert any("refused" in line for line in found.log)


@pytest.mark.parametrize(
    ("path", "message"),
    [("/short", "ends after 4"), ("/large", "more than"), ("/on", "not allowed")],
)
def test_a_server_is_not_trusted(
    cache: Path, apart: Apart, liar: Server, path: str, message: str
) -> None:
    found = find_debug_file(BUILD_ID, str(apart[0]), debug_dirs=[liar.url + path])
    assert found.path == ""
    assert any(message in line for line in found.log), found.log
    assert list((cache / BUILD_ID).iterdir()) == []


def test_another_builds_file_is_not_kept(cache: Path, apart: Apart, served: Server) -> None:
    other = "ab" * 20
    place = apart[0].parent.parent / "served" / "buildid"
    (place / BUILD_ID).rename(place / other)
    found = find_debug_file(other, "", debug_dirs=[served.url])
    assert found.path == ""
    assert any(f"build-id {BUILD_ID}, not {other}" in line for line in found.log)
    assert list((cache / other).iterdir()) == []


def test_a_file_may_be_too_large(
    cache: Path, apart: Apart, served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBUGINFOD_MAXSIZE", "1000")
    found = find_debug_file(BUILD_ID, str(apart[0]), debug_dirs=[served.url])
    assert found.path == ""
    assert any("more than 1000 bytes" in line for line in found.log)
    assert list((cache / BUILD_ID).iterdir()) == []


@pytest.mark.parametrize("variable", ["DEBUGINFOD_CACHE_PATH", "XDG_CACHE_HOME", "HOME", "former"])
def test_the_cache_is_where_elfutils_has_it(
    variable: str, apart: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DEBUGINFOD_CACHE_PATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    below = {
        "DEBUGINFOD_CACHE_PATH": ".",
        "XDG_CACHE_HOME": "debuginfod_client",
        "HOME": ".cache/debuginfod_client",
        "former": ".debuginfod_client_cache",
    }[variable]
    if variable.isupper():
        monkeypatch.setenv(variable, str(tmp_path))
    place = tmp_path / below / BUILD_ID
    place.mkdir(parents=True)
    (place / "debuginfo").write_bytes(apart[1].read_bytes())
    found = find_debug_file(BUILD_ID, str(apart[0])).path
    assert Path(found).samefile(place / "debuginfo")


def test_the_options(
    cache: Path,
    apart: Apart,
    served: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = tmp_path / "bundle.json"
    command = ["layout", "build", str(apart[0]), "-o", str(bundle)]
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    assert main([*command, "--debuginfod"]) == 2
    assert "DEBUGINFOD_URLS names no server" in capsys.readouterr().err
    assert main([*command, "--debuginfod-url", "ftp://host"]) == 2
    assert "no URL of http or https" in capsys.readouterr().err
    assert served.asked == []
    monkeypatch.setenv("DEBUGINFOD_URLS", f"ima:enforcing {served.url}")
    main([*command, "--debuginfod"])
    assert served.asked == [f"/buildid/{BUILD_ID}/debuginfo"]
    (cache / BUILD_ID / "debuginfo").unlink()
    main([*command, "--debuginfod-url", served.url])
    assert len(served.asked) == 2
