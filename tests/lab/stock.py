"""Debian's own binary of QEMU: stripped, with modules, without debug information at hand.

Nothing is compiled: the package is unpacked into the lab, its libraries come with the package
installed. What a rebuild with debug information leaves beside it (docs/packs.md) lets gdb read its
cores, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.lab import packages
from tests.lab.cases import CoreCase, iter_cores
from tests.lab.forms import is_form
from tests.lab.paths import (
    cases_directory,
    forms_cases_directory,
    qemu_directory,
    stock_cases_directory,
)

PROGRAM = "qemu-system-x86_64"
_PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data")
_RUN_PACKAGES = ("gdb", "nbdkit", "libnbd-bin", "fuse3", "binutils", "qemu-utils", "seabios")

MARK = "-stock"
"""The end of the names of such versions."""

DEBUG_FILE = f"{PROGRAM}.debug"
"""The program rebuilt from the same source package, if somebody has put it there."""


def qemu(version: str) -> Path:
    """The directory with the package's binary, unpacked if it is not there yet."""
    target = qemu_directory(version)
    program = target / PROGRAM
    if not program.exists():
        packages.install(*_PACKAGES, *_RUN_PACKAGES)
        target.mkdir(parents=True, exist_ok=True)
        for name in _PACKAGES[:2]:
            packages.extract(name, target / "root")
        # QEMU finds its modules by its own path, so that must be where the package has it.
        program.symlink_to(Path("root") / "usr" / "bin" / PROGRAM)
    return target


def debug_file(program: Path) -> Path | None:
    """The rebuilt program that gdb reads types from, None if there is none."""
    found = program.parent / DEBUG_FILE
    return found if found.exists() else None


def cases_of(version: str) -> Path:
    """The parent of the cases of a version."""
    if is_form(version):
        return forms_cases_directory() / version
    return (stock_cases_directory() if version.endswith(MARK) else cases_directory()) / version


def stock_cores() -> Iterator[CoreCase]:
    """All cores of such binaries that the lab has made."""
    yield from iter_cores(stock_cases_directory())
