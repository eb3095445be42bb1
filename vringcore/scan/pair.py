"""Whether two cores can be compared: of one process, the earlier first, and how far apart."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from vringcore.elfcore.notes import AT_RANDOM
from vringcore.errors import UsageError
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from vringcore.api import Core
    from vringcore.model.report import Report

SECOND_NS = 1_000_000_000

_RANDOM_SIZE = 16


class Elapsed(NamedTuple):
    """The time between two cores.

    :ivar nanoseconds: None if nothing tells
    :ivar source: who says so: ``clock`` (the host's, noted by ``vringcore capture``), ``calendar``
        (when each was taken), "" for nobody
    :ivar written: nanoseconds between the last writes to the files, where nothing else tells: no
        more than a hint, for a copy has a time of its own; None if that says nothing either
    """

    nanoseconds: int | None
    source: str
    written: int | None = None


def check_same(first: Core, second: Core, before: Report, after: Report) -> None:
    """Refuse cores of two processes: addresses and indices of one say nothing of the other.

    A VM that was started again, or moved to another host, has its name and UUID still; in a
    container its process number, too. What the kernel gave a program at its start differs.

    :raises UsageError: if they are of two
    """
    pairs = (
        ("build-id", before.core.build_id, after.core.build_id),
        ("VM's UUID", before.qemu.vm_uuid, after.qemu.vm_uuid),
        ("VM's name", before.qemu.vm_name, after.qemu.vm_name),
        ("pid", before.qemu.pid, after.qemu.pid),
    )
    for what, one, other in pairs:
        if isinstance(one, Absent) or isinstance(other, Absent) or one == other:
            continue
        raise _refusal(f"{what} {one} and {other}", again=what == "pid")
    old, new = first.process.core.auxv, second.process.core.auxv
    differs = any(old[key] != new[key] for key in old.keys() & new.keys())
    if differs or _random_differs(first, second):
        raise _refusal("another start of the program (auxiliary vector)", again=True)
    places = [{d.address for d in report.devices or ()} for report in (before, after)]
    if all(places) and not places[0] & places[1]:
        raise _refusal("no device at the same address", again=True)


def elapsed(first: Core, second: Core) -> Elapsed:
    """Return the time between two cores of one process.

    :raises UsageError: if the second is the older one: steps of indices would be those back
    """
    found = _elapsed(first, second)
    if found.nanoseconds is not None and found.nanoseconds < 0:
        raise UsageError(
            "the second core is the older one",
            seen=f"taken {-found.nanoseconds / SECOND_NS:.1f} s before the first",
            expected="the earlier core first",
            hint="name them the other way round",
        )
    return found


def _elapsed(first: Core, second: Core) -> Elapsed:
    slims = first.process.core.slim, second.process.core.slim
    clocks = [None if slim is None else slim.clock_ns for slim in slims]
    if clocks[0] is not None and clocks[1] is not None:
        return Elapsed(clocks[1] - clocks[0], "clock")
    times = [core.info.captured_at for core in (first, second)]
    if isinstance(times[0], str) and isinstance(times[1], str):
        one, other = (datetime.fromisoformat(each) for each in (times[0], times[1]))
        return Elapsed(int((other - one).total_seconds() * SECOND_NS), "calendar")
    written = [_written(core) for core in (first, second)]
    if written[0] is not None and written[1] is not None and written[0] < written[1]:
        return Elapsed(None, "", written[1] - written[0])
    return Elapsed(None, "")


def _written(core: Core) -> int | None:
    """Return when a core's file was last written to, None if it is no file of its own."""
    try:
        return os.stat(core.info.path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None


def _random_differs(first: Core, second: Core) -> bool:
    """Tell whether the random bytes that the kernel gave each differ, if both cores have them."""
    found = []
    for core in (first.process.core, second.process.core):
        data = core.memory.find(core.auxv.get(AT_RANDOM, 0), _RANDOM_SIZE)
        if data is not None and data.strip(b"\0"):
            found.append(data)
    return len(found) == 2 and found[0] != found[1]


def _refusal(seen: str, *, again: bool) -> UsageError:
    return UsageError(
        "the cores are not of one process",
        seen=seen,
        expected="two cores of one VM, taken one after the other",
        hint="QEMU was started again between them, or the VM is on another host" if again else "",
    )
