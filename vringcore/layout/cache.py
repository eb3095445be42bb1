"""Bundles kept between runs, one file per build, under the user's cache directory."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.layout.bundle import MAX_SIZE, from_json, to_json
from vringcore.version import VERSION

if TYPE_CHECKING:
    from vringcore.layout.bundle import Bundle

_GENERATION = 2
"""Raised within a version when the same build would be described differently. Files of other
versions and generations are not found: what an older reader did not see must not be missed."""


class LayoutCache:
    """A directory of bundles by build-id."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    @classmethod
    def default(cls) -> LayoutCache | None:
        """Return the user's cache: ``$XDG_CACHE_HOME/vringcore`` or ``~/.cache/vringcore``.

        None where there is no home directory to put it in.
        """
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):  # noqa: PTH117 - pathlib costs an import
            if os.environ.get("HOME") == "":  # taken for the root directory otherwise
                return None
            base = os.path.expanduser("~/.cache")  # noqa: PTH111
            if not os.path.isabs(base):  # noqa: PTH117
                return None
        return cls(os.path.join(base, "vringcore"))  # noqa: PTH118

    def path(self, build_id: str) -> str:
        """Return the file of a build."""
        name = f"{build_id}.{VERSION}-{_GENERATION}.json"
        return os.path.join(self.directory, name)  # noqa: PTH118

    def read(self, build_id: str, log: list[str]) -> Bundle | None:
        """Return the bundle of a build, None if there is none of use; ``log`` says why."""
        if not _is_build_id(build_id):
            return None
        path = self.path(build_id)
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                data = file.read(MAX_SIZE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.append(f"layout cache: {path}: {error.strerror}")
            return None
        try:
            bundle = from_json(data, where=path)
        except VringcoreError as error:
            log.append(f"layout cache: {error}")
            return None
        if bundle.build_id != build_id:
            log.append(f"layout cache: {path} is of build-id {bundle.build_id}")
            return None
        return bundle

    def write(self, bundle: Bundle) -> str:
        """Put a bundle in its place, whole or not at all; return why not, "" if it went well."""
        if not _is_build_id(bundle.build_id):
            return "layout cache: the build has no build-id to keep it under"
        path = self.path(bundle.build_id)
        # Several processes may write the same build; each has its own file until the rename.
        scratch = f"{path}.{os.getpid()}.{id(bundle):x}.tmp"
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)  # noqa: PTH103
            with open(scratch, "xb") as file:  # noqa: PTH123
                file.write(to_json(bundle))
            os.replace(scratch, path)  # noqa: PTH105
        except OSError as error:
            with suppress(OSError):
                os.unlink(scratch)  # noqa: PTH108
            return f"layout cache: {path} cannot be written: {error.strerror}"
        return ""


def _is_build_id(build_id: str) -> bool:
    # It becomes a file name, and it came out of a core.
    return 8 <= len(build_id) <= 128 and all(c in "0123456789abcdef" for c in build_id)
