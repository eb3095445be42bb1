"""When a core was taken, as far as its name or the files beside it tell, checked against it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vringcore.elfcore.naming import ABRT, SavedAs, parse_name
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from vringcore.elfcore.image import ProcessImage

CONTRADICTED = "contradicted"
NOT_RECORDED = Absent("not-recorded", None, "neither gdb nor the kernel writes the time")


def captured_at(core: ProcessImage) -> tuple[str | Absent, str]:
    """Return when a core was taken, in ISO 8601 in UTC, and who says so ("" if nobody does).

    A slim core says it itself, and who said so of its original. For others the name counts
    (systemd-coredump, core_pattern) or ABRT's files beside it, unless the core contradicts them.
    The file's modification time never does.
    """
    taken, source = taken_at(core)
    return iso_time(taken) if isinstance(taken, float) else taken, source


def taken_at(core: ProcessImage) -> tuple[float | Absent, str]:
    """Return the same in seconds since 1970."""
    slim = core.slim
    if slim is not None and slim.captured_at is not None:
        return slim.captured_at, slim.captured_by or "the core's own note"
    if slim is not None and slim.captured_by:
        return Absent(CONTRADICTED, None, slim.captured_by), ""
    saved = saved_as(core.path)
    if saved is None or saved.time is None:
        return NOT_RECORDED, ""
    doubt = contradiction(saved, core)
    if doubt:
        return Absent(CONTRADICTED, None, f"{_source(saved)} is not believed: {doubt}"), ""
    return float(saved.time), f"{_source(saved)}{_remark(saved, core)}"


def saved_as(path: str) -> SavedAs | None:
    """Return what the name of a core or the files beside it say of it, None if nothing."""
    found = parse_name(os.path.basename(path.rpartition(":")[2]))  # noqa: PTH119
    if found is None and os.path.isfile(path):  # noqa: PTH113
        from vringcore.elfcore.crashdir import read_around

        found = read_around(path)
    return found


def contradiction(saved: SavedAs, core: ProcessImage) -> str:
    """Return what the core says against a name, "" if nothing.

    The process's number may differ where the name agrees: it is that of the host, and the core has
    that of the container.
    """
    info = core.prpsinfo
    if info is None or saved.pid in (None, info.pid) or _agrees(saved, core):
        return ""
    return (
        f"it says process {saved.pid}, {saved.comm or 'no name'}; the core {info.pid}, {info.fname}"
    )


def _agrees(saved: SavedAs, core: ProcessImage) -> bool:
    """Tell whether the program has the name that the core has; a core cuts it at 15 bytes."""
    names = [core.prpsinfo.fname if core.prpsinfo else "", core.executable_path.rpartition("/")[2]]
    if saved.executable is not None and saved.executable == core.executable_path:
        return True
    return any(saved.comm and name and saved.comm[:15] == name[:15] for name in names)


def _source(saved: SavedAs) -> str:
    return "ABRT's file `time`" if saved.by == ABRT else f"the file's name ({saved.by})"


def _remark(saved: SavedAs, core: ProcessImage) -> str:
    info = core.prpsinfo
    if info is None:
        return ", which nothing in the core confirms"
    if saved.pid not in (None, info.pid):
        return f"; it says process {saved.pid}, the core {info.pid}: a container's own number"
    return ""


def iso_time(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    from datetime import UTC, datetime

    taken = datetime.fromtimestamp(seconds, UTC)
    return taken.isoformat(timespec="milliseconds").replace("+00:00", "Z")
