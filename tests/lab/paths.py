"""Where the lab keeps what it makes: always outside the checkout."""

from __future__ import annotations

import os
from pathlib import Path


def lab_root() -> Path:
    """The lab's directory: ``$VRINGCORE_LAB``, otherwise ``~/.cache/vringcore-lab``."""
    configured = os.environ.get("VRINGCORE_LAB")
    return Path(configured) if configured else Path.home() / ".cache" / "vringcore-lab"


def is_tested(version: str) -> bool:
    """Tell whether tests take what there is of a version: one of ``$VRINGCORE_LAB_VERSIONS``.

    All versions are, if that is not set.
    """
    chosen = os.environ.get("VRINGCORE_LAB_VERSIONS", "").split()
    return not chosen or version in chosen


def lab_programs(pattern: str = "qemu-system-*") -> list[Path]:
    """The emulators that the lab has built or fetched, of the versions that are tested."""
    found = sorted((lab_root() / "qemu").glob(f"*/{pattern}"))
    return [path for path in found if is_tested(path.parent.name)]


def qemu_directory(version: str) -> Path:
    """Finished binaries of one QEMU version."""
    return lab_root() / "qemu" / version


def guest_directory() -> Path:
    """Kernel and initramfs of the guest."""
    return lab_root() / "guest"


def cases_directory() -> Path:
    """Parent of all case directories: ``cases/VERSION/SCENARIO``."""
    return lab_root() / "cases"


def stock_cases_directory() -> Path:
    """Parent of the cases of distributions' own binaries: `stock/VERSION/SCENARIO`.

    They are apart from the others, as most tests of those need debug information.
    """
    return lab_root() / "stock"


def forms_cases_directory() -> Path:
    """Parent of the cases of QEMU compiled otherwise: `forms/VERSION/SCENARIO`.

    They are apart from the others, as gdb does not read all of their debug information.
    """
    return lab_root() / "forms"


def work_directory() -> Path:
    """Scratch space for builds and for cases that are being made."""
    return lab_root() / "work"
