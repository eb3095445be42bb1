"""The guest: a kernel of Debian, and an initramfs of busybox and virtio modules.

Modules are loaded by the initramfs in the order listed here; each scenario brings its own shell
script, which is passed as a second, concatenated archive (`scenario_archive`).
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.lab import cpio, packages
from tests.lab.paths import guest_directory

READY = "vringcore-lab: ready"
"""The line a scenario's guest script prints once its work has begun."""

STOCK = "bookworm"
"""The suite whose kernel most guests run."""

GENERIC = "bookworm-generic"
"""The same suite's kernel for any machine, which unlike that for clouds has 9P."""

NEWER = "trixie-backports"
"""The suite of a kernel that knows VIRTIO_F_IN_ORDER and has a driver for virtio-iommu."""

_MODULES = (
    "virtio-iommu",
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "scsi_common",
    "scsi_mod",
    "crct10dif_common",
    "crct10dif_generic",
    "crc-t10dif",
    "crc64",
    "crc64-rocksoft",
    "t10-pi",
    "sd_mod",
    "virtio_scsi",
    "virtio_console",
    "rng-core",
    "virtio-rng",
    "virtio_balloon",
    "evdev",
    "virtio_input",
    "virtio_mem",
    "netfs",
    "fscache",
    "9pnet",
    "9pnet_virtio",
    "9p",
)

_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo 1 > /proc/sys/kernel/printk
for module in $(cat /modules/order); do insmod /modules/$module.ko; done
. /scenario.sh
while :; do sleep 60; done
"""


def kernel(suite: str = STOCK) -> Path:
    """The guest kernel image."""
    return _directory(suite) / "vmlinuz"


def initramfs(suite: str = STOCK) -> Path:
    """The part of the initramfs that all scenarios share."""
    return _directory(suite) / "initramfs"


def scenario_archive(script: str, programs: Mapping[str, str]) -> bytes:
    """A second initramfs archive holding one scenario's guest script, and its C programs."""
    entries = [cpio.executable("scenario.sh", script.encode())]
    entries += [cpio.executable(f"bin/{name}", _built(programs[name])) for name in programs]
    return cpio.archive(entries)


def _built(source: str) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / "program"
        command = ["gcc", "-static", "-Os", "-Wall", "-Werror", "-x", "c", "-", "-o", str(program)]
        subprocess.run(command, input=source, check=True, text=True)
        return program.read_bytes()


def make(suite: str = STOCK) -> None:
    """Fetches kernel and busybox and writes the initramfs; does nothing if both are there."""
    if kernel(suite).exists() and initramfs(suite).exists():
        return
    packages.install("busybox-static", "qemu-system-data", "seabios")
    _directory(suite).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        options: list[str] = []
        if suite not in (STOCK, GENERIC):
            options = packages.another_suite(suite, Path(scratch) / "apt")
        for package in _kernel_packages("" if suite == GENERIC else "cloud-", options):
            packages.extract(package, tree, options)
        initramfs(suite).write_bytes(_shared_archive(tree))
        shutil.copy(next(tree.rglob("vmlinuz*")), kernel(suite))


def _directory(suite: str) -> Path:
    return guest_directory() if suite == STOCK else guest_directory() / suite


def _kernel_packages(flavour: str, options: list[str]) -> list[str]:
    """The packages with the image and the modules; newer kernels come in two."""
    image = packages.dependency_of(f"linux-image-{flavour}amd64", "linux-image-", options)
    try:
        prefixes = ("linux-binary-", "linux-modules-")
        return [packages.dependency_of(image, prefix, options) for prefix in prefixes]
    except LookupError:
        return [image]


def _shared_archive(tree: Path) -> bytes:
    found = {path.name.partition(".")[0]: path for path in tree.rglob("*.ko*")}
    order = [name for name in _MODULES if name in found]
    entries = [cpio.directory(name) for name in ("bin", "dev", "proc", "sys", "modules")]
    entries.append(cpio.character_device("dev/console", 5, 1))
    entries.append(cpio.executable("bin/busybox", Path("/bin/busybox").read_bytes()))
    entries.append(cpio.executable("init", _INIT.encode()))
    entries.append(cpio.executable("modules/order", "\n".join(order).encode()))
    entries += [cpio.executable(f"modules/{name}.ko", _module(found[name])) for name in order]
    return cpio.archive(entries)


def _module(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content
