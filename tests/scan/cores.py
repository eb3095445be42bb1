"""A handful of small real cores in every packing, and what a scan says of each."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import zstandard

from tests.lab.cases import DUMPS

CODES = {
    "10.0/idle": "",
    "10.0/stuck": "request-not-answered-by-nbd-server",
    "10.0/stuck-throttle": "throttled",
    "7.2/broken": "device-broken",
    "7.2/stuck-migration": "migration-waits-for-drain",
}
"""Dumps, and what decides of each by the tests of `why`."""


def dump(name: str) -> Path:
    """Return the core of a dump."""
    return DUMPS / name / "core.zst"


def member(name: str) -> str:
    """Return what a core is called in the archives."""
    return name.replace("/", "-") + ".core"


def unpacked(name: str) -> bytes:
    """Return the ELF core itself."""
    return zstandard.ZstdDecompressor().stream_reader(dump(name).read_bytes()).read()


def copies(directory: Path, names: list[str] | None = None) -> Path:
    """Write cores under their names into a directory, and something that is none."""
    directory.mkdir(exist_ok=True)
    for name in names or CODES:
        (directory / member(name)).write_bytes(dump(name).read_bytes())
    (directory / "notes.txt").write_text("no core\n")
    return directory


def tar(path: Path, names: list[str], mode: str = "w", *, raw: bool = False) -> Path:
    """Write a tar archive of cores, compressed each on its own or, if ``raw``, not at all."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in names:
            data = unpacked(name) if raw else dump(name).read_bytes()
            info = tarfile.TarInfo(member(name))
            info.size = len(data)
            info.mtime = 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, names: list[str], method: int, *, raw: bool = False) -> Path:
    """Write a zip archive of cores."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            data = unpacked(name) if raw else dump(name).read_bytes()
            archive.writestr(zipfile.ZipInfo(member(name)), data, method)
        archive.writestr("README", "no core")
    return path
