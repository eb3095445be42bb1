"""Files from debuginfod: the cache that its clients share, and servers where the user names them.

The protocol is ``GET SERVER/buildid/BUILD-ID/debuginfo`` or ``/executable`` (debuginfod(8)); the
cache and the variables are those of elfutils (debuginfod_find_debuginfo(3)). The network is used
only for servers that were given; what comes is checked by build-id before it is kept.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vringcore.debuginfo.find import cache_directory
from vringcore.errors import VringcoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from http.client import HTTPResponse
    from typing import IO

SCHEMES = ("http://", "https://")

MAX_SIZE = 4 << 30
"""Bytes of one file, where ``DEBUGINFOD_MAXSIZE`` does not say."""

MAX_SECONDS = 900.0
"""For one file, where ``DEBUGINFOD_MAXTIME`` does not say."""

PATIENCE = 90.0
"""Seconds without a byte, where ``DEBUGINFOD_TIMEOUT`` does not say."""

_CHUNK = 1 << 20


def is_server(place: str) -> bool:
    """Tell whether a place to look in is a server rather than a directory."""
    return place.lower().startswith(SCHEMES)


def servers_of_environment() -> list[str]:
    """Return the servers that ``DEBUGINFOD_URLS`` names; those of other schemes are left out."""
    return [u for u in os.environ.get("DEBUGINFOD_URLS", "").split() if is_server(u)]


def fetch(servers: Iterable[str], build_id: str, kind: str, log: list[str]) -> str:
    """Fetch a file into the cache; return its path, "" if no server has it.

    :param kind: ``debuginfo`` or ``executable``
    :param log: is told what went wrong at which server
    """
    directory = Path(cache_directory()) / build_id
    for server in servers:
        url = f"{server.rstrip('/')}/buildid/{build_id}/{kind}"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _download(url, directory / kind, build_id)
        except (OSError, ValueError, VringcoreError) as error:  # OSError: all of urllib's, too
            log.append(f"{url}: {error}")
        else:
            return str(directory / kind)
    return ""


def _download(url: str, path: Path, build_id: str) -> None:
    """Write a file at once or not at all.

    :raises ValueError: if it is too large, takes too long, or is of another build
    """
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file, _opened(url) as response:
            _copy(response, file)
        _check(name, build_id)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _opened(url: str) -> HTTPResponse:
    """Ask for a URL; no answer, also after being sent on, is of another scheme than HTTP."""
    from urllib import request

    handlers: Sequence[type[request.BaseHandler]] = (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    )
    opener = request.OpenerDirector()
    for handler in handlers:
        opener.add_handler(handler())
    asked = request.Request(url, headers={"User-Agent": "vringcore", "Accept-Encoding": "identity"})  # noqa: S310
    response: HTTPResponse | None = opener.open(
        asked, timeout=_number("DEBUGINFOD_TIMEOUT", PATIENCE)
    )
    if response is None:
        raise ValueError("sent on to what is no HTTP")
    return response


def _copy(response: HTTPResponse, file: IO[bytes]) -> None:
    limit = int(_number("DEBUGINFOD_MAXSIZE", MAX_SIZE))
    end = time.monotonic() + _number("DEBUGINFOD_MAXTIME", MAX_SECONDS)
    promised = response.headers.get("Content-Length") or ""
    size = 0
    while chunk := response.read1(_CHUNK):
        size += len(chunk)
        if size > limit or (promised.isdecimal() and int(promised) > limit):
            raise ValueError(f"more than {limit} bytes (DEBUGINFOD_MAXSIZE)")
        if time.monotonic() > end:
            raise ValueError("takes too long (DEBUGINFOD_MAXTIME)")
        file.write(chunk)
    if promised.isdecimal() and size != int(promised):
        raise ValueError(f"ends after {size} of {promised} bytes")


def _check(path: str, build_id: str) -> None:
    from vringcore.debuginfo.elf import ElfFile

    with ElfFile.open(path, what="file from debuginfod") as elf:
        if elf.build_id != build_id:
            raise ValueError(f"build-id {elf.build_id or 'none'}, not {build_id}")


def _number(name: str, default: float) -> float:
    """Return a positive number from the environment; 0 there means the default, as for elfutils."""
    text = os.environ.get(name, "")
    return float(text) if text.isdecimal() and int(text) else default
