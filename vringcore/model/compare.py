"""Two cores of one VM, one after the other: what moved and what did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.model.values import Absent, Hex

if TYPE_CHECKING:
    from vringcore.model.report import CoreInfo, Limitation, QemuInfo, Tool


class Side(msgspec.Struct, frozen=True):
    """One of the two cores; ``verdict`` is the code of what is wrong with it, "" for nothing."""

    core: CoreInfo
    qemu: QemuInfo
    state: str
    verdict: str
    signature: str


class IndexMove(msgspec.Struct, frozen=True):
    """A ring index in both cores.

    :param steps: from the first to the second, modulo 2^16 (of a packed ring, modulo its two
        rounds): 0 also after exactly 65536
    """

    name: str
    first: int | Absent
    second: int | Absent
    steps: int | Absent


class Lasting(msgspec.Struct, frozen=True):
    """A request in flight in both cores, the same by head, QEMU's structure, content and beginning.

    :param at_least_ns: for how long it had been in flight at the second, at least; null if unknown
    """

    head: int
    address: Hex | None
    summary: str
    waits_in: str
    at_least_ns: int | None


class QueueChange(msgspec.Struct, frozen=True):
    """What one queue did between the cores.

    :param state: ``stuck`` (requests last and no completion came, for a second at least), ``slow``
        (requests last while others complete), ``moving``, ``idle`` (nothing moved, nothing lasts),
        ``unknown``
    :param lasting: requests in flight in both
    :param gone: in flight in the first alone
    :param new: in flight in the second alone
    """

    device: int
    device_id: str | Absent | None
    kind: str
    queue: int
    role: str
    state: str
    indices: tuple[IndexMove, ...]
    lasting: tuple[Lasting, ...]
    gone: int
    new: int


class ThreadChange(msgspec.Struct, frozen=True):
    """A thread in both cores.

    :param state: ``same`` (the very same frames: pc and stack), ``moved``, ``gone``, ``new``
    :param first: functions of its stack, innermost first
    """

    lwp: int
    role: str | None
    state: str
    first: tuple[str, ...]
    second: tuple[str, ...]


class CompareDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/compare/1``: two cores of one VM.

    :param state: ``stuck`` (at least one queue is), ``slow``, ``moving``, ``idle``, ``unknown``
    :param elapsed_ns: between the cores; null where they do not tell
    :param elapsed_source: ``clock`` (the host's, noted by ``vringcore capture``), ``calendar``
        (when each was taken), "" if nothing tells
    """

    schema: str = "vringcore/compare/1"
    tool: Tool
    first: Side
    second: Side
    elapsed_ns: int | None
    elapsed_source: str
    state: str
    summary: str
    queues: tuple[QueueChange, ...]
    threads: tuple[ThreadChange, ...]
    limits: tuple[Limitation, ...] = ()
