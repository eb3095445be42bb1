"""Where a core lies, in a form that can be sent to another process or machine."""

from __future__ import annotations

import msgspec

from vringcore.model.values import shown

MARK = "!"
"""Stands between an archive and the name of its member."""

PARTS = ("devices", "queues", "requests", "findings")
"""The tables that a row can hold beside its counts."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A core: a file, an object of a store, or a member of an archive.

    :param path: file, or URL of any store that fsspec knows
    :param member: its name in the archive, "" for the file itself
    :param size: bytes of the file or member, packed as it is
    :param modified: seconds since 1970, None where the store does not say
    :param offset: where the member's bytes begin in the file
    :param length: how many they are; None: the file is the core
    :param packing: ``deflate`` where an archive has packed the member on its own
    :param data: the member itself, where it was small and could not be read where it lies
    :param scratch: a temporary file with the member, where it was not small
    """

    path: str
    member: str = ""
    size: int = 0
    modified: float | None = None
    offset: int = 0
    length: int | None = None
    packing: str = ""
    data: bytes | None = None
    scratch: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What names it in the results."""
        return shown(self.path), shown(self.member)

    @property
    def name(self) -> str:
        """Path and member, for people."""
        return shown(f"{self.path}{MARK}{self.member}" if self.member else self.path)


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker is to do with each core.

    :param executables: QEMU binaries; of each core the one with its build-id is used
    :param sysroot: directory under which the paths in cores are looked up; "" for nowhere: a core
        of somebody else's names files of its choosing
    :param why: ask for the verdict; without it devices, queues and requests alone
    :param tables: of :data:`PARTS`: what rows hold beside the counts
    :param timeout: seconds that one core may take
    :param memory: bytes that a worker may allocate; 0 for no limit
    :param cache: keep layouts in the user's cache directory
    :param storage: options for fsspec: credentials, endpoint
    """

    executables: tuple[str, ...] = ()
    debug_files: tuple[str, ...] = ()
    debug_dirs: tuple[str, ...] = ()
    sysroot: str = ""
    layout: str | None = None
    tmpdir: str | None = None
    max_unpacked: int | None = None
    deep: bool = False
    why: bool = True
    tables: tuple[str, ...] = ()
    timeout: float = 120.0
    memory: int = 2 << 30
    cache: bool = True
    storage: dict[str, str | int | bool | dict[str, str]] = {}
