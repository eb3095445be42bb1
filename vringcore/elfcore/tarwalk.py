"""The members of a tar archive, read forwards once, whatever the archive says of itself."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, cast

from vringcore.elfcore.compressed import Target, chunks_of, unpacked_start
from vringcore.elfcore.headers import ELF_MAGIC, ET_CORE
from vringcore.elfcore.sequential import MAX_HEADER, Forward
from vringcore.errors import CoreFormatError, FileError, LimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.memory.files import FileSource

BLOCK = tarfile.BLOCKSIZE

MAX_MEMBERS = 1 << 18
"""Members of an archive that are looked at."""

_COPY = 1 << 16
_PEEK = 1 << 16
_BLOCKS = b"BZh"
_PEEK_BLOCKS = 1 << 20
"""Of bzip2, which unpacks blocks of up to 900 kB whole."""

_START = 20


def is_header(block: bytes) -> bool:
    """Tell whether a block is the header of a member, by its checksum."""
    if len(block) < BLOCK or not block.strip(b"\0"):
        return False
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


class Walk:
    """The regular files of a tar archive, one after the other, read forwards once.

    The library keeps no list of them, and what it may read as headers is bounded.

    :ivar problems: what ended a member early that was opened
    :raises CoreFormatError: where the archive is cut or damaged
    :raises LimitError: if its headers or their number are beyond all measure
    """

    def __init__(self, packed: FileSource, progress: Callable[[int, int], None] | None) -> None:
        self._packed = packed
        self.problems: list[CoreFormatError] = []
        pieces = chunks_of(packed, progress)
        self._plain = pieces is None
        self._reader = Forward(packed if pieces is None else pieces, progress)
        try:
            with self._reader.measured(MAX_HEADER):
                self._tar = tarfile.open(fileobj=self._reader, mode="r:")  # noqa: SIM115
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        for _ in range(MAX_MEMBERS):
            try:
                with self._reader.measured(MAX_HEADER):
                    member = self._tar.next()
                if member is None:
                    self._check_end()
            except _DAMAGE as error:
                raise self._damaged(error) from error
            if member is None:
                return
            # The library would keep them all.
            self._tar.members = []  # type: ignore[attr-defined]
            if member.isreg():
                yield member
        raise LimitError(
            "the archive has too many members",
            where=self._packed.path,
            expected=f"at most {MAX_MEMBERS}",
            hint="name the core with --member",
        )

    def is_core(self, member: tarfile.TarInfo) -> bool:
        """Tell whether a member begins as a core does, unpacked if it is compressed."""
        start = self.start_of(member, _PEEK)
        if start.startswith(_BLOCKS):
            start = self.start_of(member, _PEEK_BLOCKS)
        if not start.startswith(ELF_MAGIC):
            start = unpacked_start(start, _START)
        big = start[5:6] == b"\x02"
        kind = int.from_bytes(start[16:18], "big" if big else "little")
        return start.startswith(ELF_MAGIC) and kind == ET_CORE

    def open(
        self, member: tarfile.TarInfo, tmpdir: str | None, max_unpacked: int | None
    ) -> FileSource:
        """Return the member as a file: where it lies, or copied, its holes kept."""
        name = f"{self._packed.path}:{member.name}"
        if self._plain and not member.issparse():
            return self._packed.part(member.offset_data, member.size, name)
        try:
            with Target(name, tmpdir, max_unpacked) as target:
                self._fill(member, target)
                return target.source()
        except OSError as error:
            raise FileError(
                "the member cannot be unpacked",
                where=name,
                seen=error.strerror or str(error),
                hint="choose a directory with room by --tmpdir",
            ) from error

    def close(self) -> None:
        """Forget the archive; the file stays open."""
        self._tar.close()

    def _fill(self, member: tarfile.TarInfo, target: Target) -> None:
        """Copy a member as far as the archive is sound; ``problems`` says what ended it."""
        file = self._tar.extractfile(member)
        assert file is not None
        for offset, size in _extents(member):
            target.skip_to(offset)
            file.seek(offset)
            while size:
                try:
                    data = file.read(min(size, _COPY))
                except (CoreFormatError, *_DAMAGE) as error:
                    self.problems.append(self._damaged(error))
                    return
                target.write(data)
                size -= len(data)
        target.skip_to(member.size)

    def start_of(self, member: tarfile.TarInfo, size: int) -> bytes:
        """Return the beginning of a member; reading it is what moves the archive on.

        :raises CoreFormatError: if the archive is damaged there
        """
        file = self._tar.extractfile(member)
        assert file is not None
        try:
            return file.read(size)
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def _check_end(self) -> None:
        """Refuse an archive that ends with anything but its end: the library takes both for it."""
        self._reader.seek(self._tar.offset)
        if self._reader.read(BLOCK).strip(b"\0"):
            raise tarfile.ReadError("neither a header nor the end of the archive")

    def _damaged(self, error: Exception) -> CoreFormatError:
        return CoreFormatError(
            "the archive is cut or damaged",
            where=f"about offset {self._reader.tell():#x} of what {self._packed.path} holds",
            seen=str(error) or type(error).__name__,
            hint="copy it again, or unpack what is left of it by hand",
        )


def _extents(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Return where a member has data: ``(offset, size)``; the rest are holes."""
    if not member.issparse():
        return [(0, member.size)]
    # typeshed takes the list for bytes.
    sparse = cast("list[tuple[int, int]]", member.sparse)
    reach, found = 0, []
    for offset, size in sparse:
        if offset < reach or size < 0 or offset + size > member.size:
            raise CoreFormatError(
                "the holes of the archive's member make no sense",
                where=member.name,
                seen=f"{size} bytes at {offset}",
                expected=f"within {member.size} bytes and behind {reach}",
            )
        found.append((offset, size))
        reach = offset + size
    return found


_DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, AttributeError)
