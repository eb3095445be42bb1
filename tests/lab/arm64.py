"""QEMU for an arm64 host, on a machine of another kind: built crosswise, run by user emulation."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.lab import packages
from tests.lab.paths import lab_root

PREFIX = "aarch64-linux-gnu-"
PACKAGES = (
    *("gcc-aarch64-linux-gnu", "g++-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
    *("gdb-multiarch", "mmdebstrap"),
)
OPTIONS = (
    *("--target-list=x86_64-softmmu", "--without-default-features", "--enable-tcg"),
    *("--enable-linux-aio", "--enable-slirp", "--enable-vhost-user"),
    *("--enable-debug-info", "--enable-pie"),
    *("--disable-werror", "--disable-strip", "--disable-docs", "--disable-install-blobs"),
)
TARGETS = ("qemu-system-x86_64",)

_LIBRARIES = (
    *("libc6-dev", "libglib2.0-dev", "libpixman-1-dev", "zlib1g-dev", "libfdt-dev"),
    *("libslirp-dev", "libaio-dev", "libc6-dbg", "libgcc-12-dev", "libstdc++-12-dev"),
)
_EMULATOR_SUITE = "trixie"
"""Its user emulation has a gdb stub that one can come to later (``suspend=n``)."""


def sysroot() -> Path:
    """Debian's libraries for arm64, with headers and debug information, in a directory."""
    target = lab_root() / "arm64" / "sysroot"
    if target.exists():
        return target
    packages.install(*PACKAGES)
    made = target.with_name("sysroot.new")
    shutil.rmtree(made, ignore_errors=True)
    made.parent.mkdir(parents=True, exist_ok=True)
    wanted = ",".join(_LIBRARIES)
    command = ["mmdebstrap", "--architectures=arm64", "--variant=extract", f"--include={wanted}"]
    subprocess.run([*command, "bookworm", str(made)], check=True, capture_output=True)
    for link in made.rglob("*"):
        if link.is_symlink() and os.readlink(link).startswith("/"):
            inside = made / os.readlink(link).lstrip("/")
            link.unlink()
            link.symlink_to(os.path.relpath(inside, link.parent))
    made.rename(target)
    return target


def emulator() -> Path:
    """The program that runs programs for arm64."""
    target = lab_root() / "arm64" / "qemu-aarch64"
    if not target.exists():
        scratch = target.with_name("scratch")
        options = packages.another_suite(_EMULATOR_SUITE, scratch / "apt")
        packages.extract("qemu-user", scratch / "tree", options)
        shutil.copy2(scratch / "tree" / "usr" / "bin" / target.name, target)
        shutil.rmtree(scratch)
    return target


def debugger(program: Path) -> list[str]:
    """The gdb that reads cores of a program of the lab, which may be one for an arm64 host."""
    if not program.parent.name.endswith("-arm64"):
        return ["gdb"]
    return ["gdb-multiarch", "-iex", f"set sysroot {sysroot()}"]


def configuration(tools: Path) -> tuple[list[str], dict[str, str]]:
    """Options of configure and what to add to its environment; `tools` gets a pkg-config."""
    packages.install(*PACKAGES)
    root = sysroot()
    tools.mkdir(parents=True, exist_ok=True)
    wrapper = tools / f"{PREFIX}pkg-config"
    libraries = f"{root}/usr/lib/aarch64-linux-gnu/pkgconfig:{root}/usr/share/pkgconfig"
    wrapper.write_text(
        "#!/bin/sh\n"
        f"export PKG_CONFIG_SYSROOT_DIR={root} PKG_CONFIG_LIBDIR={libraries}\n"
        'exec pkg-config "$@"\n'
    )
    wrapper.chmod(0o755)
    flags = [f"--extra-{kind}=--sysroot={root}" for kind in ("cflags", "cxxflags", "ldflags")]
    return [f"--cross-prefix={PREFIX}", *flags], {"PATH": f"{tools}:{os.environ['PATH']}"}
