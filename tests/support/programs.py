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
from vringcore.debuginfo.elf import ElfFile
from vringcore.layout.bundle import to_json
from vringcore.options import Options

Maker = Callable[[Path, Path], Options]


@dataclass(frozen=True)
class DebugKind:
    """A column of the matrix.

    `tools` are the programs that make it, `beside` another program of the build that it needs.
    """

    name: str
    make: Maker
    tools: tuple[str, ...] = ()
    environment: Callable[[Path], dict[str, str]] | None = None
    beside: str = ""

    def missing(self, program: Path) -> str:
        """The first that is not there of what it needs, "" if all is."""
        if not program.with_name(self.beside or program.name).exists():
            return self.beside
        return next((tool for tool in self.tools if shutil.which(tool) is None), "")


def _inside(program: Path, _scratch: Path) -> Options:
    return Options(executable=str(program))


def _by_build_id(program: Path, scratch: Path) -> Options:
    name = build_id(program)
    debug = scratch / ".build-id" / name[:2] / f"{name[2:]}.debug"
    debug.parent.mkdir(parents=True)
    _run(_binutil("objcopy", program), "--only-keep-debug", program, debug)
    return Options(executable=str(stripped(program, scratch)), debug_dirs=(str(scratch),))


def _by_link(program: Path, scratch: Path) -> Options:
    alone = stripped(program, scratch)
    debug = scratch / f"{program.name}.debug"
    _run(_binutil("objcopy", program), "--only-keep-debug", program, debug)
    _run(_binutil("objcopy", program), f"--add-gnu-debuglink={debug}", alone)
    return Options(executable=str(alone))


def _in_debuginfod_cache(program: Path, scratch: Path) -> Options:
    debug = scratch / build_id(program) / "debuginfo"
    debug.parent.mkdir()
    _run(_binutil("objcopy", program), "--only-keep-debug", program, debug)
    return Options(executable=str(stripped(program, scratch)))


def _dwz(program: Path, scratch: Path) -> Options:
    out = scratch / program.name
    shutil.copy2(program, out)
    _run("dwz", "-L", "none", "-l", "none", out)
    return Options(executable=str(out))


def _dwz_common(program: Path, scratch: Path) -> Options:
    """What it has in common with qemu-nbd stands in a file of its own, beside it."""
    out, other = scratch / program.name, scratch / "qemu-nbd"
    shutil.copy2(program, out)
    shutil.copy2(program.with_name(other.name), other)
    _run("dwz", "-L", "none", "-l", "none", "-m", scratch / "common.debug", out, other)
    return Options(executable=str(out))


def _index(*options: str) -> Maker:
    def make(program: Path, scratch: Path) -> Options:
        out = scratch / program.name
        shutil.copy2(program, out)
        _run("env", *_of_gdb(program), "gdb-add-index", *options, out)
        return Options(executable=str(out))

    return make


def _elfcompress(program: Path, scratch: Path) -> Options:
    out = scratch / program.name
    _run("eu-elfcompress", "-q", "-t", "zlib", "-o", out, program)
    return Options(executable=str(out))


def _compressed(how: str) -> Maker:
    def make(program: Path, scratch: Path) -> Options:
        out = scratch / program.name
        _run(_binutil("objcopy", program), f"--compress-debug-sections={how}", program, out)
        return Options(executable=str(out))

    return make


def _bundle(program: Path, scratch: Path) -> Options:
    out = scratch / "layout.json"
    with Program(str(program), debug_files=[], debug_dirs=[]) as opened:
        out.write_bytes(to_json(build_bundle(opened)))
    return Options(executable=str(stripped(program, scratch)), layout=str(out))


def _none(program: Path, scratch: Path) -> Options:
    return Options(executable=str(stripped(program, scratch)))


def stripped(program: Path, scratch: Path) -> Path:
    """Write the program without debug information and symbols into ``scratch``."""
    out = scratch / program.name
    _run(_binutil("strip", program), "-o", out, program)
    return out


def _binutil(name: str, program: Path) -> str:
    """Debian's binutils are of one machine each; the native ones have no prefix."""
    return f"aarch64-linux-gnu-{name}" if _is_foreign(program) else name


def _of_gdb(program: Path) -> list[str]:
    """The programs that gdb-add-index calls, as its environment names them."""
    gdb = "gdb-multiarch" if _is_foreign(program) else "gdb"
    return [f"GDB={gdb}", f"OBJCOPY={_binutil('objcopy', program)}"]


def _is_foreign(program: Path) -> bool:
    with ElfFile.open(str(program)) as elf:
        return elf.machine == "aarch64"


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
    DebugKind("dwz, common file", _dwz_common, ("dwz",), beside="qemu-nbd"),
    DebugKind(".gdb_index", _index(), ("gdb-add-index",)),
    DebugKind(".debug_names", _index("-dwarf-5"), ("gdb-add-index",)),
    DebugKind("zlib", _compressed("zlib"), _OBJCOPY),
    DebugKind("zlib (eu-elfcompress)", _elfcompress, ("eu-elfcompress",)),
    DebugKind("zlib (.zdebug)", _compressed("zlib-gnu"), _OBJCOPY),
    DebugKind("zstd", _compressed("zstd"), _OBJCOPY),
    DebugKind("stripped, bundle", _bundle, _OBJCOPY),
    DebugKind("stripped, nothing", _none, _OBJCOPY),
)
"""All columns, in their order."""
