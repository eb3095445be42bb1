"""The kinds of core files, each made of a case of the lab (or of its small core).

A kind is a function that takes the cores of a build by scenario and kind ("stuck/gcore") and a
directory to write in, and gives the core as it is to be opened; None where the lab has none.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import zstandard

from tests.lab.cases import NOWHERE, CoreCase
from vringcore.layout.store import LayoutStore
from vringcore.options import Options
from vringcore.slim.slim import slim_core

Cores = Mapping[str, CoreCase]
Maker = Callable[[Cores, Path], "Sample | None"]

STUCK = ("stuck", "fork-stuck", "fork-deadlock")
"""Scenarios that stand for a build, the first that it has."""

_KEPT = 0.6
"""Part of the file that a truncated core keeps."""


@dataclass(frozen=True)
class Sample:
    """A core file to open, and the case that its truth is in.

    `own_layouts`: it is read by what it holds itself, without any other file.
    """

    case: CoreCase
    path: Path
    own_layouts: bool = False

    def options(self, given: Options) -> Options:
        """How it is opened with a kind of debug information."""
        if self.own_layouts:
            return Options(sysroot=NOWHERE)
        own = self.case.options
        places = (*given.debug_dirs, *own.debug_dirs)
        return msgspec.structs.replace(given, debug_dirs=places, sysroot=own.sysroot)


@dataclass(frozen=True)
class CoreKind:
    """A row of the matrix.

    `synthetic` says how it was made of a real core, where nothing else wrote it. `wrapped`: what
    is in it is byte for byte the gcore, so that one kind of debug information is enough.
    """

    name: str
    make: Maker
    synthetic: str = ""
    wrapped: bool = False


def _first(cores: Cores, kind: str) -> CoreCase | None:
    return next((cores[f"{name}/{kind}"] for name in STUCK if f"{name}/{kind}" in cores), None)


def _as_it_is(kind: str, scenarios: tuple[str, ...] = STUCK) -> Maker:
    def make(cores: Cores, _scratch: Path) -> Sample | None:
        names = (f"{scenario}/{kind}" for scenario in scenarios)
        found = next((cores[name] for name in names if name in cores), None)
        return None if found is None else Sample(found, found.path)

    return make


def _slim(cores: Cores, scratch: Path) -> Sample | None:
    found = _first(cores, "gcore")
    if found is None:
        return None
    if not found.whole:
        return Sample(found, found.path, own_layouts=True)
    out = scratch / "core.slim"
    slim_core(str(found.path), str(out), options=found.options, store=LayoutStore())
    return Sample(found, out, own_layouts=True)


def _truncated(cores: Cores, scratch: Path) -> Sample | None:
    found = _first(cores, "gcore")
    if found is None:
        return None
    out = scratch / "core.truncated"
    _copy(found.path, out)
    with out.open("r+b") as file:
        file.truncate(int(out.stat().st_size * _KEPT))
    return Sample(found, out)


def _compressed(cores: Cores, scratch: Path) -> Sample | None:
    found = _first(cores, "gcore")
    if found is None:
        return None
    out = scratch / "core.zst"
    with found.path.open("rb") as source, out.open("wb") as target:
        zstandard.ZstdCompressor(level=1).copy_stream(source, target)
    return Sample(found, out)


def _gzipped(cores: Cores, scratch: Path) -> Sample | None:
    found = _first(cores, "gcore")
    if found is None:
        return None
    out = scratch / "core.gz"
    with found.path.open("rb") as source, gzip.open(out, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return Sample(found, out)


def _in_tar(cores: Cores, scratch: Path) -> Sample | None:
    found = _first(cores, "gcore")
    if found is None:
        return None
    out = scratch / "report.tar.gz"
    with tarfile.open(out, "w:gz", compresslevel=1) as archive:
        archive.add(found.path, "var/spool/abrt/core.4711")
    return Sample(found, out)


def _copy(source: Path, target: Path) -> None:
    """A sparse copy."""
    with source.open("rb") as file, target.open("wb") as out:
        while block := file.read(1 << 20):
            if any(block):
                out.write(block)
            else:
                out.seek(len(block), 1)
        out.truncate()


KINDS: tuple[CoreKind, ...] = (
    CoreKind("gdb's gcore", _as_it_is("gcore")),
    CoreKind("written by the kernel", _as_it_is("kernel")),
    CoreKind("read from /proc", _as_it_is("proc", ("stuck-threads",))),
    CoreKind("guest RAM left out", _as_it_is("gcore", ("no-guest-ram",))),
    CoreKind("vhost-user", _as_it_is("gcore", ("stuck-vhost-user",))),
    CoreKind("slim", _slim),
    CoreKind("truncated", _truncated, "a gcore cut at 60 % of its size"),
    CoreKind("compressed (zstd)", _compressed, "a gcore, compressed afterwards", wrapped=True),
    CoreKind("compressed (gzip)", _gzipped, "a gcore, compressed afterwards", wrapped=True),
    CoreKind("in a tar archive (gzip)", _in_tar, "a gcore, archived afterwards", wrapped=True),
)
"""All rows, in their order; add a kind here."""
