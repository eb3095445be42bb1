"""How a core is opened: files to use, places to look in, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`vringcore.open_core` takes beside the core.

    :param executable: the program's file; without it, the path in the core and then the debug
        directories by build-id are tried
    :param debug_files: files with separate debug information
    :param debug_dirs: directories with ``.build-id/xx/yyyy.debug`` trees, searched before the
        system's own; and debuginfod servers (``https://...``), the only ones that are asked
    :param sysroot: directory under which the paths in the core are looked up
    :param ram_files: files that back guest RAM which the core left out, ``PATH`` or ``BLOCK=PATH``
    :param layout: a layout bundle or pack to use instead of debug information
    :param near: also one of another build, if what it leads to passes its checks
    :param member: the core in a tar archive that holds several
    :param tmpdir: where a compressed core is unpacked
    :param max_unpacked: most bytes that unpacking may take
    :param progress: called with (bytes done, bytes in all or 0) while unpacking
    :param deep: allow heap scans even where the structures led to every request
    """

    executable: str | None = None
    debug_files: tuple[str, ...] = ()
    debug_dirs: tuple[str, ...] = ()
    sysroot: str | None = None
    layout: str | None = None
    ram_files: tuple[str, ...] = ()
    near: bool = False
    member: str | None = None
    tmpdir: str | None = None
    max_unpacked: int | None = None
    progress: Callable[[int, int], None] | None = None
    deep: bool = False

    def files(self) -> tuple[str, ...]:
        """Return the files named here, to be read: executable, bundle, debug files, RAM files."""
        ram = [name for each in self.ram_files for name in (each, each.partition("=")[2]) if name]
        named = (self.executable, self.layout, *self.debug_files, *ram)
        return tuple(f for f in named if f is not None)
