"""From the report of a core to its row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from vringcore.api import TOOL
from vringcore.model.error import ErrorDetail
from vringcore.model.scan import (
    RowCost,
    RowCounts,
    RowDevice,
    RowFinding,
    RowQueue,
    RowRequest,
    RowVerdict,
    ScanRow,
)
from vringcore.model.values import Absent, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.errors import VringcoreError
    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.report import CoreInfo, QemuInfo, Report
    from vringcore.model.requests import InFlight
    from vringcore.scan.place import Place

GRAVE = ("stuck", "fault")


class Known:
    """What was found of one core so far, so that an error later does not take it away."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._facts: dict[str, Any] = {}

    def core(self, info: CoreInfo) -> None:
        """Add the core file itself."""
        self._facts.update(
            kind=info.kind,
            machine=info.machine,
            build_id=info.build_id,
            core_size=info.size,
            complete=info.complete,
            captured_at=info.captured_at,
        )

    def qemu(self, info: QemuInfo) -> None:
        """Add the process."""
        self._facts.update(
            qemu_version=info.version,
            machine_type=info.machine_type,
            pid=info.pid,
            vm_name=info.vm_name,
            vm_uuid=info.vm_uuid,
            run_state=info.run_state,
            migration=info.migration,
        )

    def report(self, report: Report, tables: Iterable[str]) -> None:
        """Add what the devices, and the verdict if there is one, come to."""
        devices = report.devices or ()
        self._facts["counts"] = _counts(report, devices)
        if report.verdict is not UNSET:
            found = report.verdict
            self._facts["verdict"] = RowVerdict(
                found.state, found.code, found.summary, found.confidence
            )
            self._facts["signature"] = report.signature
        makers = {"devices": _devices, "queues": _queues, "requests": _requests}
        for name in tables:
            if name in makers:
                self._facts[name] = tuple(makers[name](devices))
            elif report.findings is not UNSET:
                self._facts[name] = tuple(
                    RowFinding(f.code, f.severity, f.confidence, f.summary, f.device, f.queue)
                    for f in report.findings
                )

    def row(self, cost: RowCost, error: ErrorDetail | None = None) -> ScanRow:
        """Return the row."""
        place = self._place
        path, member = place.key
        return ScanRow(
            tool=TOOL,
            path=path,
            member=member,
            size=place.size,
            modified=time_of(place.modified),
            error=error,
            cost=cost,
            **self._facts,
        )


def failed(place: Place, code: str, message: str, *, attempts: int = 1, hint: str = "") -> ScanRow:
    """Return the row of a core of which nothing came back."""
    error = ErrorDetail(code, shown(message), place.name, "", "", hint)
    return Known(place).row(RowCost(0.0, 0.0, 0, attempts), error)


def detail_of(error: VringcoreError) -> ErrorDetail:
    """Return one of our errors as rows hold it."""
    told = (str(error), error.where, error.seen, error.expected, error.hint)
    return ErrorDetail(error.code, *map(shown, told))


def time_of(seconds: float | None) -> str | None:
    """Return a time in ISO 8601, UTC, None for one that no calendar has."""
    if seconds is None:
        return None
    try:
        taken = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return taken.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _counts(report: Report, devices: tuple[Device, ...]) -> RowCounts:
    queues = [queue for device in devices for queue in device.queues or ()]
    ready = [queue for queue in queues if queue.ring_state == "ready"]
    in_use = [queue.counts.in_use if queue.counts else None for queue in ready]
    unseen = [queue.counts.unseen if queue.counts else None for queue in ready]
    unknown = sum(
        any(not isinstance(value, int) for value in pair)
        for pair in zip(in_use, unseen, strict=True)
    )
    lost = sum(queue.ring_state in ("unreadable", "untranslatable") for queue in queues)
    findings = None
    if report.findings is not UNSET:
        findings = sum(finding.severity in GRAVE for finding in report.findings)
    threads = report.core.threads
    return RowCounts(
        devices=len(devices),
        queues=len(ready) + lost,
        unreadable=unknown + lost,
        in_flight=sum(len(queue.in_flight or ()) for queue in queues),
        in_use=sum(value for value in in_use if isinstance(value, int)),
        unseen=sum(value for value in unseen if isinstance(value, int)),
        threads=None if isinstance(threads, Absent) else threads,
        findings=findings,
        limits=len(report.limits),
    )


def _devices(devices: tuple[Device, ...]) -> Iterator[RowDevice]:
    for each in devices:
        yield RowDevice(
            each.index,
            each.id,
            each.kind,
            each.qom_path,
            each.pci_address,
            each.ring_owner,
            each.broken,
            len(each.queues or ()),
        )


def _queues(devices: tuple[Device, ...]) -> Iterator[RowQueue]:
    for device in devices:
        for queue in device.queues or ():
            yield _queue(device, queue)


def _queue(device: Device, queue: Queue) -> RowQueue:
    nothing = Absent("not-counted")
    return RowQueue(
        device.index,
        queue.index,
        queue.role,
        queue.ring,
        queue.ring_state,
        queue.size,
        queue.last_avail_idx,
        queue.used_idx,
        queue.counts.unseen if queue.counts else nothing,
        queue.counts.in_use if queue.counts else nothing,
        len(queue.in_flight or ()),
    )


def _requests(devices: tuple[Device, ...]) -> Iterator[RowRequest]:
    for device in devices:
        for queue in device.queues or ():
            for each in queue.in_flight or ():
                yield _request(device, queue, each)


def _request(device: Device, queue: Queue, each: InFlight) -> RowRequest:
    innermost = each.waits_in[-1] if each.waits_in else None
    age = each.age
    return RowRequest(
        device.index,
        queue.index,
        each.head,
        each.source,
        each.summary,
        None if each.request is None else f"{int(each.request.address):#x}",
        innermost.place if innermost else "",
        innermost.node if innermost else "",
        None if age is None or isinstance(age, Absent) else age.nanoseconds,
    )
