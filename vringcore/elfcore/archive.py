"""Cores that are not simply a file: compressed, in a tar archive, in a directory of ABRT.

Nothing is extracted to a path of the archive's choosing: the one member that is read goes to the
nameless temporary file of :mod:`~vringcore.elfcore.compressed`, or is read where it lies.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from vringcore.elfcore.compressed import unpack, unpacked_start
from vringcore.elfcore.headers import ELF_MAGIC
from vringcore.elfcore.tarwalk import BLOCK, Walk, is_header
from vringcore.errors import CoreFormatError, UsageError
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Progress = Callable[[int, int], None]

MARKS = (":", "!")
"""What may stand between an archive and its member: ``sos.tar.xz:var/crash/core.1``."""

MAX_LISTED = 20
"""Cores that a message lists."""


class Opened(NamedTuple):
    """A core's bytes, ready to be read at random; and what was damaged on the way there."""

    source: FileSource
    problems: list[CoreFormatError]


class CoreMember(msgspec.Struct, frozen=True):
    """A core in an archive: its name there, and its size there, packed as it may be."""

    name: str
    size: int


def split_member(path: str) -> tuple[str, str | None]:
    """Return ``(archive, member)`` of ``ARCHIVE:MEMBER``; a path that exists is no such thing."""
    if os.path.exists(path):  # noqa: PTH110
        return path, None
    for place, character in enumerate(path):
        if character in MARKS and os.path.isfile(path[:place]):  # noqa: PTH113
            return path[:place], path[place + 1 :]
    return path, None


def open_packed(
    path: str,
    *,
    member: str | None = None,
    tmpdir: str | None = None,
    max_unpacked: int | None = None,
    progress: Progress | None = None,
) -> Opened:
    """Open a core as it is named: a file, compressed or not, a member of an archive, a directory.

    :param path: the file, ``ARCHIVE:MEMBER``, or a directory of ABRT
    :param member: the core in the archive; without it the only one there is
    :param tmpdir, max_unpacked, progress: see :func:`~vringcore.elfcore.core.open_elf_core`
    :raises FileError: if a file cannot be opened, or there is no room
    :raises UsageError: if the archive holds several cores and none was chosen, or not this one
    :raises CoreFormatError: if the archive is damaged before the core, or holds none
    :raises LimitError: if it unpacks to more than ``max_unpacked``
    """
    if member is None:
        path, member = split_member(path)
    if os.path.isdir(path):  # noqa: PTH112
        from vringcore.elfcore.crashdir import core_in

        path = core_in(path)
    packed = FileSource.open(path, what="core")
    try:
        if not is_tar(packed):
            if member is not None:
                raise UsageError(
                    "a member was chosen of a file that is no archive",
                    where=path,
                    seen=f"the bytes {packed.read(0, 8).hex(' ')}",
                    expected="a tar archive, compressed or not",
                )
            source, problems = unpack(
                packed, tmpdir=tmpdir, max_unpacked=max_unpacked, progress=progress
            )
            return Opened(source, problems)
        chosen = _Search(packed, member, tmpdir, max_unpacked).run(progress)
    except BaseException:
        packed.close()
        raise
    packed.close()
    try:
        source, problems = unpack(chosen.source, tmpdir=tmpdir, max_unpacked=max_unpacked)
    except BaseException:
        chosen.source.close()
        raise
    return Opened(source, [*chosen.problems, *problems])


def is_tar(packed: FileSource) -> bool:
    """Tell whether a file is a tar archive, plain or compressed: by the checksum of its header.

    What cannot be unpacked as far as that is none.
    """
    start = packed.read(0, BLOCK)
    return not start.startswith(ELF_MAGIC) and is_header(unpacked_start(packed, BLOCK))


def cores_in(packed: FileSource) -> Iterator[CoreMember]:
    """Yield the cores of a tar archive by their content, in its order; the file stays open.

    :raises CoreFormatError: where the archive is damaged; what came before has been yielded
    :raises LimitError: if its headers or their number are beyond all measure
    """
    with closing(Walk(packed, None)) as walk:
        for member in walk:
            if walk.is_core(member):
                yield CoreMember(member.name, member.size)


class _Search:
    """Looks for the core in an archive, and takes it as it passes by: there is no way back."""

    def __init__(
        self, packed: FileSource, wanted: str | None, tmpdir: str | None, limit: int | None
    ) -> None:
        self._packed = packed
        self._wanted = None if wanted is None else _plain(wanted)
        self._tmpdir = tmpdir
        self._limit = limit
        self._found: list[CoreMember] = []
        self._taken: FileSource | None = None
        self._problems: list[CoreFormatError] = []

    def run(self, progress: Progress | None) -> Opened:
        """Return the member's bytes, packed as they may be; the archive's file stays open."""
        try:
            self._walk(progress)
            chosen = self._wanted is not None or len(self._found) == 1
            if self._taken is None or not chosen:
                raise self._not_chosen()
        except BaseException:
            if self._taken is not None:
                self._taken.close()
            raise
        return Opened(self._taken, self._problems)

    def _walk(self, progress: Progress | None) -> None:
        try:
            with closing(Walk(self._packed, progress)) as walk:
                for member in walk:
                    wanted = self._wanted is not None and _plain(member.name) == self._wanted
                    if not wanted and not walk.is_core(member):
                        continue
                    self._found.append(CoreMember(member.name, member.size))
                    if self._taken is None and (wanted or self._wanted is None):
                        self._taken = walk.open(member, self._tmpdir, self._limit)
                    self._problems += walk.problems
                    if wanted or walk.problems:
                        return
        except CoreFormatError as error:
            if self._taken is None:
                raise
            # The core is there; whether others are behind the damage is not known.
            self._problems.append(error)

    def _not_chosen(self) -> UsageError:
        path, found = self._packed.path, self._found
        listed = ", ".join(f"{each.name} ({each.size} bytes)" for each in found[:MAX_LISTED])
        listed += f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
        if self._wanted is not None:
            return UsageError(
                "the archive has no such member",
                where=path,
                seen=self._wanted,
                expected=f"one of its cores: {listed}" if found else "a core; it holds none",
            )
        if not found:
            return UsageError("the archive holds no core", where=path, expected="an ELF core in it")
        return UsageError(
            "the archive holds several cores",
            where=path,
            seen=listed,
            hint=f"choose one: `{path}:{found[0].name}`, or --member {found[0].name}",
        )


def _plain(name: str) -> str:
    return name.removeprefix("./").lstrip("/")
