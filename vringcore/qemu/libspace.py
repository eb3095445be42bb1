"""The process's memory with the files of its libraries beneath it, each opened when it is needed.

Unwinding needs a few pages of the few libraries that threads are in; the other verbs need none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import MemoryFault, VringcoreError
from vringcore.memory.files import FileSource
from vringcore.memory.gaps import GapKind
from vringcore.memory.space import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vringcore.elfcore.executable import Executable
    from vringcore.elfcore.image import ProcessImage
    from vringcore.elfcore.modules import Module
    from vringcore.memory.gaps import Gap
    from vringcore.memory.space import Piece, Range


class LibrarySpace(AddressSpace[HostAddress]):
    """A core's memory over its files: the program's at once, a library's when a page is missing.

    Close it.

    :param mapped: files that are open already, by module path
    :param file_of: the path of a module's file on this machine, of the very build, "" if none is
        at hand
    """

    def __init__(
        self,
        core: ProcessImage,
        mapped: Mapping[str, FileSource],
        executable: Executable | None,
        file_of: Callable[[Module], str],
    ) -> None:
        self.name = core.memory.name
        self._core = core
        self._files = dict(mapped)
        self._executable = executable
        self._file_of = file_of
        self._opened: dict[str, FileSource | None] = {}
        self._space = core.with_files(self._files, executable)

    def read(self, address: HostAddress, size: int) -> bytes:
        """Return exactly ``size`` bytes; see :meth:`AddressSpace.read`."""
        try:
            return self._space.read(address, size)
        except MemoryFault as fault:
            if not self._fills(fault.gap):
                raise
        return self.read(address, size)

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        """Yield the range as data and gaps; see :meth:`AddressSpace.pieces`."""
        for piece in self._space.pieces(address, size):
            if piece.gap is not None and self._fills(piece.gap):
                yield from self.pieces(HostAddress(piece.address), piece.size)
            else:
                yield piece

    def ranges(self) -> Sequence[Range]:
        """Return what is known to be mapped."""
        return self._space.ranges()

    def close(self) -> None:
        """Close the libraries' files."""
        for source in self._opened.values():
            if source is not None:
                source.close()

    def _fills(self, gap: Gap) -> bool:
        """Open the file that a gap needs; tell whether it was found, and had not been before."""
        if gap.kind is not GapKind.FILE_NEEDED or gap.file in self._opened:
            return False
        module = self._core.module_at(gap.address)
        source = self._opened[gap.file] = None if module is None else self._open(module)
        if source is None:
            return False
        self._files[gap.file] = source
        self._space = self._core.with_files(self._files, self._executable)
        return True

    def _open(self, module: Module) -> FileSource | None:
        path = "" if module.is_executable else self._file_of(module)
        try:
            return FileSource.open(path, what="library") if path else None
        except VringcoreError:
            return None  # The gap stays, and says which file would fill it.
