"""QEMU 7.2 as other compilers and options leave its debug information: clang, link-time
optimisation, split and type units, an old DWARF.

What objcopy, dwz and gdb make of a finished program needs no build (`tests/support/programs.py`).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "qemu-system-x86_64"
SPLIT_UNITS = "dwo"
"""The directory beside a program with its split units, laid out as they were built."""


@dataclass(frozen=True)
class Form:
    """How the sources are compiled: configure's options, packages that it takes, the last step."""

    options: tuple[str, ...]
    packages: tuple[str, ...] = ()
    finish: Callable[[Path, Path], None] | None = None


PLAIN = Form(())
"""As configure has it."""


def _pack_split_units(objects: Path, target: Path) -> None:
    """Keeps the split units, each apart as the compiler wrote it and all in one file."""
    command = ["dwp", "-e", PROGRAM, "-o", str(target / f"{PROGRAM}.dwp")]
    subprocess.run(command, cwd=objects, check=True)
    for unit in objects.rglob("*.dwo"):
        place = target / SPLIT_UNITS / unit.relative_to(objects)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(unit, place)


def _flags(*flags: str) -> tuple[str, ...]:
    return (f"--extra-cflags={' '.join(flags)}",)


def is_form(version: str) -> bool:
    """Tell whether a version is compiled otherwise: `7.2-clang`."""
    return version.partition("-")[2] in FORMS


FORMS = {
    "clang": Form(("--cc=clang", "--cxx=clang++", "--host-cc=clang"), ("clang",)),
    "lto": Form(("--enable-lto",)),
    # dwp of Debian's binutils ends badly on split units of DWARF 5.
    "split": Form(_flags("-gsplit-dwarf", "-gdwarf-4"), ("binutils",), _pack_split_units),
    "types": Form(_flags("-fdebug-types-section", "-gdwarf-4")),
    "dwarf3": Form(_flags("-gdwarf-3", "-gstrict-dwarf")),
}
"""By the end of a version's name: `7.2-clang`."""
