"""Opens the core at a place, with what is known of its build shared by all cores of a worker."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING

from vringcore.api import Core
from vringcore.elfcore.compressed import unpack
from vringcore.elfcore.core import ElfCore, nothing_unpacked
from vringcore.elfcore.executable import read_executable
from vringcore.elfcore.headers import ELF_MAGIC
from vringcore.elfcore.notes import SLIM_OWNER
from vringcore.elfcore.slimnote import NT_SLIM_LAYOUTS
from vringcore.errors import VringcoreError
from vringcore.layout.provider import Layouts
from vringcore.layout.store import LayoutStore
from vringcore.memory.files import FileSource
from vringcore.options import Options
from vringcore.qemu.files import ProgramFiles
from vringcore.qemu.process import Process

if TYPE_CHECKING:
    from vringcore.elfcore.image import ProcessImage
    from vringcore.errors import CoreFormatError
    from vringcore.scan.access import Source
    from vringcore.scan.place import Settings

NOWHERE = os.devnull
"""A system root that has no file: no path of a core is looked up on this machine."""

MAX_SHARED = 256
"""Builds whose types are kept; the oldest go first."""


class Builds:
    """What one worker keeps between cores: layouts by build, and where executables are."""

    def __init__(self, settings: Settings) -> None:
        self.store = LayoutStore.default() if settings.cache else LayoutStore()
        self.executables = _by_build_id(settings.executables)
        self._shared: dict[tuple[bytes, str], Layouts] = {}

    def share(self, layouts: Layouts, digest: bytes) -> None:
        """Let layouts use what was compiled from the very same types before.

        Only what follows from the types is shared, by the digest of the bytes that they came in,
        so no core can tell another anything.
        """
        key = (digest, layouts.build_id)
        known = self._shared.get(key)
        if known is None:
            while len(self._shared) >= MAX_SHARED:
                del self._shared[next(iter(self._shared))]
            self._shared[key] = layouts
        else:
            layouts.share_types(known)


class SharingFiles(ProgramFiles):
    """The files of a core's program; what follows from a slim core's types is made once."""

    def __init__(self, core: ProcessImage, options: Options, builds: Builds) -> None:
        super().__init__(core, options)
        self._builds = builds

    def layouts(self, store: LayoutStore) -> Layouts:
        """Return the layouts of the program's build; see :meth:`ProgramFiles.layouts`."""
        made = super().layouts(store)
        if self._core.slim is not None and self._options.layout is None:
            types = (
                note.desc
                for note in self._core.raw_notes
                if note.owner == SLIM_OWNER and note.type == NT_SLIM_LAYOUTS
            )
            digest = blake2b(digest_size=16)
            for desc in types:
                digest.update(desc)
            # What was found on this machine beside is another matter.
            digest.update(b"+" if self.executable is not None else b"")
            self._builds.share(made, digest.digest())
        return made


def open_core_of(source: Source, settings: Settings, builds: Builds) -> Core:
    """Return the core that a source holds; the source is closed with it, or if it is none.

    :raises VringcoreError: as :func:`vringcore.open_core` does
    """
    used: FileSource = source
    core = files = None
    try:
        problems: list[CoreFormatError] = []
        if source.read(0, len(ELF_MAGIC)) != ELF_MAGIC:
            given = source.size
            used, problems = unpack(
                source, tmpdir=settings.tmpdir, max_unpacked=settings.max_unpacked
            )
            if given and not used.size:
                raise nothing_unpacked(source.path, given, problems)
        core = ElfCore(used, problems)
        module = core.executable
        options = Options(
            executable=builds.executables.get(module.build_id if module else ""),
            debug_files=settings.debug_files,
            debug_dirs=settings.debug_dirs,
            sysroot=settings.sysroot or NOWHERE,
            layout=settings.layout,
            deep=settings.deep,
        )
        files = SharingFiles(core, options, builds)
        return Core(Process(core, files, builds.store, options))
    except BaseException:
        for each in (files, core, used, source):
            if each is not None:
                each.close()
        raise


def _by_build_id(executables: tuple[str, ...]) -> dict[str, str]:
    """Return the executables given by their build-ids; one without counts for cores without."""
    found: dict[str, str] = {}
    for path in executables:
        try:
            with FileSource.open(path, what="executable") as source:
                found.setdefault(read_executable(source).build_id, path)
        except VringcoreError:
            continue  # it was checked when the scan began
    return found
