"""Builds QEMU with debug information from Debian's sources; done once per version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab import arm64, fork, packages, stock
from tests.lab.forms import FORMS, PLAIN, Form
from tests.lab.paths import lab_root, qemu_directory, work_directory

_BUILD_PACKAGES = (
    *("dpkg-dev", "build-essential", "ninja-build", "pkg-config", "meson", "python3-venv"),
    *("libglib2.0-dev", "libpixman-1-dev", "zlib1g-dev", "libfdt-dev", "libaio-dev"),
    *("liburing-dev", "libslirp-dev", "libattr1-dev", "libcap-ng-dev", "flex", "bison"),
)
_RUN_PACKAGES = ("gdb", "nbdkit", "libnbd-bin", "fuse3", "binutils")

_OPTIONS = (
    *("--target-list=x86_64-softmmu", "--without-default-features", "--enable-tcg"),
    *("--enable-linux-aio", "--enable-linux-io-uring", "--enable-slirp"),
    *("--enable-virtfs", "--enable-attr", "--enable-cap-ng"),
    *("--enable-vhost-user", "--enable-vhost-net", "--enable-vhost-user-blk-server"),
    *("--enable-tools", "--enable-debug-info", "--enable-pie"),
    *("--disable-werror", "--disable-strip", "--disable-docs", "--disable-install-blobs"),
)
# QEMU 5.2 cannot be configured without what it finds on the machine: each is named.
_OPTIONS_ONE_BY_ONE = (
    *("--meson=/usr/bin/meson", "--target-list=x86_64-softmmu", "--enable-tcg"),
    *("--enable-linux-aio", "--enable-linux-io-uring", "--enable-slirp=system"),
    *("--enable-virtfs", "--enable-attr", "--enable-cap-ng"),
    *("--enable-vhost-user", "--enable-vhost-net", "--enable-vhost-user-blk-server"),
    *("--enable-tools", "--enable-debug-info", "--enable-pie"),
    *("--disable-werror", "--disable-strip", "--disable-docs", "--disable-blobs"),
    *("--disable-kvm", "--disable-xen", "--disable-guest-agent", "--disable-virtiofsd"),
    *("--disable-gtk", "--disable-sdl", "--disable-curses", "--disable-vnc", "--disable-vte"),
    *("--disable-spice", "--disable-opengl", "--disable-virglrenderer", "--disable-xkbcommon"),
    *("--disable-curl", "--disable-libssh", "--disable-rbd", "--disable-glusterfs"),
    *("--disable-libiscsi", "--disable-libnfs", "--disable-rdma", "--disable-mpath"),
    *("--disable-gnutls", "--disable-nettle", "--disable-gcrypt", "--disable-auth-pam"),
    *("--disable-smartcard", "--disable-libusb", "--disable-usb-redir", "--disable-brlapi"),
    *("--disable-seccomp", "--disable-capstone", "--disable-numa", "--disable-libpmem"),
    *("--disable-bzip2", "--disable-zstd", "--disable-lzo", "--disable-snappy"),
    *("--disable-libudev", "--disable-libxml2"),
)
_TARGETS = (
    *("qemu-system-x86_64", "storage-daemon/qemu-storage-daemon", "qemu-nbd"),
    "contrib/vhost-user-blk/vhost-user-blk",
)

# What QEMU 9.0 and later ask of meson's environment; bookworm's own meson is too old for them.
_NEWER_MESON = ("meson>=1.8", "tomli", "distlib", "pycotap")


@dataclass(frozen=True)
class Plan:
    """Where a QEMU version's sources come from, what is changed, what it needs to be built.

    `release` is the beginning of the version wanted of a suite that has several, or goes on to the
    next; otherwise it is the suite's newest. `targets` are what is built, `cross` gives options and
    environment of a build for another machine, from a directory for its tools. Of a `stock` version
    the suite's own binary is taken, and nothing is built. `form` is what compiles it otherwise.
    """

    suite: str
    newer_meson: bool
    change: Callable[[Path], None] | None = None
    options: tuple[str, ...] = _OPTIONS
    release: str = ""
    targets: tuple[str, ...] = _TARGETS
    cross: Callable[[Path], tuple[list[str], dict[str, str]]] | None = None
    stock: bool = False
    form: Form = PLAIN


VERSIONS = {
    "5.2": Plan("bullseye", newer_meson=False, options=_OPTIONS_ONE_BY_ONE),
    "7.2": Plan("bookworm", newer_meson=False),
    "7.2-stock": Plan("bookworm", newer_meson=False, stock=True),
    "7.2-fork": Plan("bookworm", newer_meson=False, change=fork.apply),
    "10.0": Plan("trixie", newer_meson=True),
    "10.0-fork": Plan("trixie", newer_meson=True, change=fork.apply_locking),
    "10.0-arm64": Plan(
        "trixie",
        newer_meson=True,
        options=arm64.OPTIONS,
        targets=arm64.TARGETS,
        cross=arm64.configuration,
    ),
    "10.2": Plan("sid", newer_meson=True, release="10.2"),
} | {
    f"7.2-{name}": Plan("bookworm", newer_meson=False, targets=_TARGETS[:1], form=form)
    for name, form in FORMS.items()
}


def qemu(version: str) -> Path:
    """The directory with the finished binaries; those that are not there yet are built."""
    if VERSIONS[version].stock:
        return stock.qemu(version)
    packages.install(*_RUN_PACKAGES)
    target = qemu_directory(version)
    plan = VERSIONS[version]
    missing = [name for name in plan.targets if not (target / Path(name).name).exists()]
    if not missing:
        return target
    packages.install(*_BUILD_PACKAGES, *plan.form.packages)
    work = work_directory() / f"qemu-{version}"
    shutil.rmtree(work, ignore_errors=True)
    source = packages.fetch_source("qemu", plan.suite, work, plan.release)
    change = plan.change
    if change is not None:
        change(source)
    objects = source / "objects"
    objects.mkdir()
    configured = _compile(version, source, objects, missing)
    target.mkdir(parents=True, exist_ok=True)
    for name in missing:
        shutil.copy2(objects / name, target)
    if plan.form.finish is not None:
        plan.form.finish(objects, target)
    record = {"version": version, "source": source.name, "configure": configured}
    (target / "build.json").write_text(json.dumps(record, indent=1))
    shutil.rmtree(work)
    return target


def _compile(version: str, source: Path, objects: Path, targets: list[str]) -> list[str]:
    environment = dict(os.environ)
    plan = VERSIONS[version]
    command = [str(source / "configure"), *plan.options, *plan.form.options]
    if plan.cross is not None:
        options, added = plan.cross(source / "cross-tools")
        command += options
        environment |= added
    if plan.newer_meson:
        python = _meson_environment()
        command.append(f"--python={python}")
        environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
    _run(command, objects, environment)
    _run(["ninja", *targets], objects, environment)
    return command


def _meson_environment() -> Path:
    directory = lab_root() / "meson"
    python = directory / "bin" / "python3"
    if not python.exists():
        venv.create(directory, with_pip=True)
        _run([str(python), "-m", "pip", "install", "-q", *_NEWER_MESON], lab_root(), None)
    return python


def _run(command: list[str], cwd: Path, environment: dict[str, str] | None) -> None:
    log = cwd / "lab.log"
    with log.open("ab") as sink:
        ended = subprocess.run(
            command, cwd=cwd, env=environment, stdout=sink, stderr=subprocess.STDOUT
        )
    if ended.returncode:
        tail = log.read_text(errors="replace")[-4000:]
        print(tail, file=sys.stderr)
        raise RuntimeError(f"{command[0]} failed in {cwd}; its output is in {log}")
