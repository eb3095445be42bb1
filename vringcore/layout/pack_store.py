"""The layout packs that come with the library, and the one that serves a build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.layout.pack import MAX_SIZE, SCHEMA, pack_from_json, served_by
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from vringcore.layout.pack import Pack

PATTERN = "*.json.zst"


def directory() -> Path:
    """Return where the packs lie: in the package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    installed = package / "schemas" / "layouts"
    return installed if installed.is_dir() else package.parent / "schemas" / "layouts"


def shipped() -> list[str]:
    """Return the paths of all packs, by name."""
    return sorted(map(str, directory().glob(PATTERN)))


def read_file(path: str) -> bytes:
    """Return the content of a pack or bundle.

    :raises FileError: if it cannot be read
    """
    with FileSource.open(path, what="layout pack") as source:
        return source.pread(0, min(source.size, MAX_SIZE + 1))


def find_pack(build_id: str, log: list[str]) -> Pack | None:
    """Return the shipped pack that serves a build, None if none does; ``log`` says what failed."""
    for path in shipped() if build_id else ():
        try:
            data = read_file(path)
            served = served_by(data, where=path)
            if served.schema == SCHEMA and build_id in served.serves:
                return pack_from_json(data, where=path)
        except VringcoreError as error:
            log.append(f"layout packs: {error}")
    return None
