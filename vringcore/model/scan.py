"""What a scan of many cores leaves: one row per core, groups of rows, and what was skipped."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.error import ErrorDetail
from vringcore.model.report import Tool
from vringcore.model.values import Absent


class RowVerdict(msgspec.Struct, frozen=True):
    """The verdict of one core in short; see ``vringcore why``."""

    state: str
    code: str
    summary: str
    confidence: str


class RowCounts(msgspec.Struct, frozen=True):
    """How much there is of everything.

    :param queues: that are set up
    :param unreadable: queues of which something needed here is absent: the sums leave them out
    :param in_flight: requests identified
    :param in_use: requests (descriptors, in a packed ring) that QEMU counts as taken
    :param unseen: published by drivers and not taken
    :param threads: null where the core does not tell
    :param findings: of severity ``stuck`` or ``fault``; null where no verdict was asked for
    """

    devices: int
    queues: int
    unreadable: int
    in_flight: int
    in_use: int
    unseen: int
    threads: int | None
    findings: int | None
    limits: int


class RowCost(msgspec.Struct, frozen=True):
    """What one core took. It differs from run to run; nothing else in a row does.

    :param seconds: from the worker's start on it to its row
    :param cpu_seconds: of the worker
    :param bytes_read: of the file, member or object that the core lies in, packed as it is
    :param attempts: how often it was tried
    """

    seconds: float
    cpu_seconds: float
    bytes_read: int
    attempts: int = 1


class RowDevice(msgspec.Struct, frozen=True):
    """A device of one core, flat, for a table."""

    device: int
    id: str | Absent | None
    kind: str
    qom_path: str | Absent
    pci_address: str | Absent | None
    ring_owner: str
    broken: bool | Absent
    queues: int


class RowQueue(msgspec.Struct, frozen=True):
    """A queue of one core, flat, for a table; ``device`` is the device's index."""

    device: int
    queue: int
    role: str
    ring: str | Absent
    ring_state: str
    size: int | Absent
    last_avail_idx: int | Absent
    used_idx: int | Absent
    unseen: int | Absent
    in_use: int | Absent
    in_flight: int


class RowRequest(msgspec.Struct, frozen=True):
    """A request in flight of one core, flat, for a table.

    :param address: of QEMU's structure, in hexadecimal; null where it has none
    :param waits_in: the innermost place that it was found in, "" if none
    """

    device: int
    queue: int
    head: int
    source: str
    summary: str
    address: str | None
    waits_in: str
    node: str
    age_ns: int | None


class RowFinding(msgspec.Struct, frozen=True):
    """A finding of one core, flat, for a table."""

    code: str
    severity: str
    confidence: str
    summary: str
    device: int | None
    queue: int | None


class ScanRow(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/scan-row/1``: one core of a scan. ``path`` and ``member`` are its key.

    A core that could not be read has ``error`` and what was known before; the reasons of
    ``vringcore.errors``, and ``timed-out``, ``out-of-memory``, ``worker-died`` and ``bug``. What is
    null was not reached or does not exist; what was looked for and is not there is absent, with the
    reason. ``cost`` alone differs when the same core is scanned again.

    :param path: file or URL
    :param member: name in the archive, ``inner.tar!name`` in an archive within it; "" for none
    :param size: bytes of the file or member, packed as it is
    :param modified: ISO 8601, UTC; null where the store does not say
    :param kind: who wrote it: ``gcore``, ``kernel``, ``slim`` …
    :param core_size: bytes of the ELF core itself
    :param signature: the same for cores with the same cause, "" if nothing is wrong
    """

    schema: str = "vringcore/scan-row/1"
    tool: Tool
    path: str
    member: str
    size: int
    modified: str | None
    kind: str | None = None
    machine: str | None = None
    build_id: str | None = None
    core_size: int | None = None
    complete: bool | None = None
    captured_at: str | Absent | None = None
    qemu_version: str | Absent | None = None
    machine_type: str | Absent | None = None
    pid: int | Absent | None = None
    vm_name: str | Absent | None = None
    vm_uuid: str | Absent | None = None
    run_state: str | Absent | None = None
    migration: str | Absent | None = None
    verdict: RowVerdict | UnsetType | None = UNSET
    signature: str | UnsetType | None = UNSET
    counts: RowCounts | None = None
    error: ErrorDetail | None = None
    cost: RowCost
    devices: tuple[RowDevice, ...] | UnsetType = UNSET
    queues: tuple[RowQueue, ...] | UnsetType = UNSET
    requests: tuple[RowRequest, ...] | UnsetType = UNSET
    findings: tuple[RowFinding, ...] | UnsetType = UNSET

    @property
    def key(self) -> tuple[str, str]:
        """What names the core: path and member."""
        return self.path, self.member


class Group(msgspec.Struct, frozen=True):
    """The cores of a scan that have one signature.

    :param signature: theirs; for cores that could not be read, ``error: CODE``; "" if nothing is
        wrong with them
    :param state: of their verdicts, ``unreadable`` for cores without one
    :param code: of the finding that decides, or of the error
    :param count: cores
    :param vms: VMs, told apart by UUID, else by name
    :param builds: build-ids
    :param first_seen: when the earliest of them was captured or else modified; null if unknown
    :param example: path (and member) of the first of them whose confidence is highest
    :param summary: its verdict
    """

    signature: str
    state: str
    code: str
    count: int
    vms: int
    builds: int
    first_seen: str | None
    last_seen: str | None
    confidence: str
    example: str
    summary: str


class GroupsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/groups/1``: the rows of a scan by what is wrong, the largest group first.

    :param cores: rows
    :param unfinished: bytes at the end of the file that are no whole row: the scan was cut short
    """

    schema: str = "vringcore/groups/1"
    tool: Tool
    path: str
    cores: int
    unfinished: int
    groups: tuple[Group, ...]
