"""Which files of a core's program are on this machine, and what describes its types."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vringcore.debuginfo.find import find_executable
from vringcore.errors import VringcoreError
from vringcore.layout.cache import LayoutCache
from vringcore.model.precheck import CheckedModule, DebugInformation

if TYPE_CHECKING:
    from vringcore.elfcore.image import ProcessImage
    from vringcore.elfcore.modules import Module
    from vringcore.options import Options
    from vringcore.qemu.files import ProgramFiles

_DEBIAN = {
    "x86_64": "x86", "i386": "x86", "arm": "arm", "aarch64": "arm", "ppc": "ppc", "ppc64": "ppc",
    "mips": "mips", "mips64": "mips", "mips64el": "mips", "mipsel": "mips", "sparc": "sparc",
    "sparc64": "sparc",
}  # fmt: skip
"""Debian's package qemu-system-NAME by the emulator's target; others are in qemu-system-misc."""


def debug_information(
    core: ProcessImage, files: ProgramFiles, options: Options, name: str
) -> DebugInformation:
    """Return where QEMU's types would come from; nothing of them is read."""
    if options.layout is not None:
        return DebugInformation("given", options.layout)
    if core.slim is not None and _brings_layouts(core):
        return DebugInformation("in-core", core.path)
    missing = files.missing_debug_information()
    if missing is None:
        path = files.debug_path
        own = files.executable is not None and files.executable.source.path == path
        return DebugInformation("executable" if own else "separate", path)
    return tried_places(files.build_id, package_of(name), tuple(missing.seen.split("; ")))


def tried_places(build_id: str, package: str, tried: tuple[str, ...]) -> DebugInformation:
    """Return what stands in for debug information that was not found in the places tried."""
    cached = _cached(build_id)
    if cached:
        return DebugInformation("cached", cached, package, tried)
    pack = _pack(build_id)
    return DebugInformation("pack" if pack else "missing", pack, package, tried)


def check_module(module: Module, core_path: str, options: Options) -> CheckedModule:
    """Return whether the file of a module is on this machine, and of the same build."""
    if not module.build_id:
        return CheckedModule(module.path, "", "unknown", deleted=module.deleted)
    found = find_executable(
        module.build_id,
        module.path,
        debug_dirs=options.debug_dirs,
        sysroot=options.sysroot,
        beside=os.path.dirname(core_path),  # noqa: PTH120
    )
    refused = tuple(line for line in found.log if ": not there" not in line)
    state = "found" if found.path else "other-build" if refused else "missing"
    return CheckedModule(
        module.path,
        module.build_id,
        state,
        found.path,
        module.deleted,
        () if found.path else refused,
    )


def package_of(name: str) -> str:
    """Return what to install for an emulator's debug information, by distribution."""
    target = name.removeprefix("qemu-system-")
    if name.startswith("qemu-system-"):
        package = f"qemu-system-{_DEBIAN.get(target, 'misc')}"
        return (
            f"Debian: {package}-dbgsym of the same version; Fedora: `dnf debuginfo-install"
            f" qemu-system-{_DEBIAN.get(target, target)}-core`"
        )
    if not name:
        return "Debian: qemu-system-*-dbgsym, RHEL: `dnf debuginfo-install qemu-kvm-core`"
    return "RHEL: `dnf debuginfo-install qemu-kvm-core` of the same version"


def _brings_layouts(core: ProcessImage) -> bool:
    try:
        return bool(core.slim_layouts())
    except VringcoreError:
        return False


def _cached(build_id: str) -> str:
    cache = LayoutCache.default()
    if cache is None or cache.read(build_id, []) is None:
        return ""
    return cache.path(build_id)


def _pack(build_id: str) -> str:
    from vringcore.layout.pack_store import find_pack

    pack = find_pack(build_id, [])
    return "" if pack is None else "a layout pack that comes along"
