"""The kinds of debug information, each made of a lab's executable by the tools that distributions
use; add a kind to `KINDS`.

A kind is a function that takes the executable and a directory to write in, and gives the options
that a core is opened with. What it makes is kept as long as the matrix runs.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.runner import build_id
from vringcore.cli.bundles import Program, build_bundle
from vringcore.layout.bundle import to_json
from vringcore.options import Options

Maker = Callable[[Path, Path], Options]


@dataclass(frozen=True)
class DebugKind:
    """A column of the matrix. `tools` are the programs that make it."""

    name: str
    make: Maker
    tools: tuple[str, ...] = ()
    environment: Callable[[Path], dict[str, str]] | None = None

    def missing(self) -> str:
        """The first of its tools that is not installed, "" if all are."""
        return next((tool for tool in self.tools if shutil.which(tool) is None), "")


def _inside(program: Path, _scratch: Path) -> Options:
    return Options(executable=str(program))


def _by_build_id(program: Path, scratch: Path) -> Options:
    name = build_id(program)
    debug = scratch / ".build-id" / name[:2] / f"{name[2:]}.debug"
    debug.parent.mkdir(parents=True)
    _run("objcopy", "--only-keep-debug", program, debug)
    return Options(executable=str(_stripped(program, scratch)), debug_dirs=(str(scratch),))


def _by_link(program: Path, scratch: Path) -> Options:
    stripped = _stripped(program, scratch)
    debug = scratch / f"{program.name}.debug"
    _run("objcopy", "--only-keep-debug", program, debug)
    _run("objcopy", f"--add-gnu-debuglink={debug}", stripped)
    return Options(executable=str(stripped))


def _in_debuginfod_cache(program: Path, scratch: Path) -> Options:
    debug = scratch / build_id(program) / "debuginfo"
    debug.parent.mkdir()
    _run("objcopy", "--only-keep-debug", program, debug)
    return Options(executable=str(_stripped(program, scratch)))


def _dwz(program: Path, scratch: Path) -> Options:
    out = scratch / program.name
    shutil.copy2(program, out)
    _run("dwz", "-L", "none", "-l", "none", out)
    return Options(executable=str(out))


def _compressed(how: str) -> Maker:
    def make(program: Path, scratch: Path) -> Options:
        out = scratch / program.name
        _run("objcopy", f"--compress-debug-sections={how}", program, out)
        return Options(executable=str(out))

    return make


def _bundle(program: Path, scratch: Path) -> Options:
    out = scratch / "layout.json"
    with Program(str(program), debug_files=[], debug_dirs=[]) as opened:
        out.write_bytes(to_json(build_bundle(opened)))
    return Options(executable=str(_stripped(program, scratch)), layout=str(out))


def _none(program: Path, scratch: Path) -> Options:
    return Options(executable=str(_stripped(program, scratch)))


def _stripped(program: Path, scratch: Path) -> Path:
    out = scratch / program.name
    _run("strip", "-o", out, program)
    return out


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


_OBJCOPY = ("objcopy", "strip")

KINDS: tuple[DebugKind, ...] = (
    DebugKind("in the binary", _inside),
    DebugKind("by build-id", _by_build_id, _OBJCOPY),
    DebugKind("by debug link", _by_link, _OBJCOPY),
    DebugKind(
        "debuginfod's cache",
        _in_debuginfod_cache,
        _OBJCOPY,
        environment=lambda scratch: {"DEBUGINFOD_CACHE_PATH": str(scratch)},
    ),
    DebugKind("dwz", _dwz, ("dwz",)),
    DebugKind("zlib", _compressed("zlib"), _OBJCOPY),
    DebugKind("zlib (.zdebug)", _compressed("zlib-gnu"), _OBJCOPY),
    DebugKind("zstd", _compressed("zstd"), _OBJCOPY),
    DebugKind("stripped, bundle", _bundle, _OBJCOPY),
    DebugKind("stripped, nothing", _none, _OBJCOPY),
)
"""All columns, in their order."""
