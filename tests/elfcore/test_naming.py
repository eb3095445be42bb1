"""What names of cores tell, by the conventions of systemd-coredump, ABRT and core_pattern."""

from __future__ import annotations

from pathlib import Path

import pytest

from vringcore.elfcore.crashdir import core_in, read_around
from vringcore.elfcore.naming import ABRT, PATTERN, SYSTEMD, SavedAs, parse_name
from vringcore.errors import FileError

BOOT = "4dcbbf7ad8ee4e1b9ba64bd65b5c9c6d"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # As systemd 229 to 246 wrote them, in microseconds, and later ones, in either.
        (
            f"core.qemu-system-x86.107.{BOOT}.20873.1700000000000000.lz4",
            SavedAs(SYSTEMD, "qemu-system-x86", 107, 20873, 1.7e9),
        ),
        (
            f"core.qemu-kvm.107.{BOOT}.20873.1700000000123456.zst",
            SavedAs(SYSTEMD, "qemu-kvm", 107, 20873, 1700000000.123456),
        ),
        (
            rf"core.CPU\x200\x2fKVM.0.{BOOT}.7.1700000000",
            SavedAs(SYSTEMD, "CPU 0/KVM", 0, 7, 1.7e9),
        ),
        (f"core.a.b.c.0.{BOOT}.7.1700000000.xz", SavedAs(SYSTEMD, "a.b.c", 0, 7, 1.7e9)),
        ("core.20873", SavedAs(PATTERN, pid=20873)),
        ("core.20873.gz", SavedAs(PATTERN, pid=20873)),
        ("core.qemu-system-x86.20873", SavedAs(PATTERN, "qemu-system-x86", pid=20873)),
        (
            "core.qemu-system-x86.20873.1700000000",
            SavedAs(PATTERN, "qemu-system-x86", None, 20873, 1.7e9),
        ),
        (
            "core-qemu-system-x86-6-107-107-20873-1700000000",
            SavedAs(PATTERN, "qemu-system-x86", 107, 20873, 1.7e9),
        ),
    ],
)
def test_names(name: str, expected: SavedAs) -> None:
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    "name",
    ["core", "core.zst", "core.kernel", "vm.core", "core.1.2x", "core.0", "core." + "9" * 30,
     f"core.x.0.{BOOT[:-1]}g.7.now", "core.x.0.1.2.3.4.5.6.7.8.99999999", "", ".", "c" * 1000],
)  # fmt: skip
def test_other_names_tell_nothing(name: str) -> None:
    found = parse_name(name)
    assert found is None or found.time is None


def crash(directory: Path, **files: str) -> str:
    (directory / "coredump").write_bytes(b"\x7fELF")
    for name, text in files.items():
        (directory / name).write_text(text)
    return str(directory / "coredump")


def test_a_directory_of_abrt(tmp_path: Path) -> None:
    path = crash(
        tmp_path, pid="7", global_pid="20873", uid="107", time="1700000000", package="qemu-kvm-8",
        executable="/usr/libexec/qemu-kvm", environ="SECRET=1", cmdline="qemu-kvm secret",
    )  # fmt: skip
    assert core_in(str(tmp_path)) == path
    assert read_around(path) == SavedAs(
        ABRT, "qemu-kvm", 107, 20873, 1.7e9, "/usr/libexec/qemu-kvm", "qemu-kvm-8"
    )


def test_what_is_beside_a_core_that_is_none_of_abrt(tmp_path: Path) -> None:
    assert read_around(crash(tmp_path)) is None
    (tmp_path / "core.1").write_bytes(b"\x7fELF")
    (tmp_path / "time").write_text("1700000000")
    assert read_around(str(tmp_path / "core.1")) is None


def test_hostile_files_of_abrt(tmp_path: Path) -> None:
    path = crash(tmp_path, pid="x" * 100000, uid="-1", time="9" * 100, executable="\0\n\n")
    found = read_around(path)
    assert found is not None
    assert (found.pid, found.uid, found.time) == (None, None, None)


def test_a_directory_without_a_core(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no core"):
        core_in(str(tmp_path))
