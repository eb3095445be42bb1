"""``--device`` and ``--queue``: the part of a core that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import EXIT_OK, EXIT_PARTIAL, NoSuchQueueError, UsageError

if TYPE_CHECKING:
    from vringcore.api import Core
    from vringcore.model.devices import Device
    from vringcore.model.report import Report


def select(core: Core, parts: set[str], device: str | None, queue: int | None) -> Report:
    """Return the report of the devices and queues that were asked for.

    :raises NoSuchDeviceError: nothing answers to ``device``
    :raises AmbiguousDeviceError: several devices do
    :raises NoSuchQueueError: no chosen device has queue ``queue``
    """
    report = core.report(parts, device=device)
    if queue is None:
        return report
    from msgspec.structs import replace

    return replace(report, devices=_with_queue(report.devices or (), queue))


def _with_queue(devices: tuple[Device, ...], index: int) -> tuple[Device, ...]:
    from msgspec.structs import replace

    chosen = []
    for device in devices:
        queues = tuple(queue for queue in device.queues or () if queue.index == index)
        if queues:
            chosen.append(replace(device, queues=queues))
    if not chosen:
        raise NoSuchQueueError(
            f"no queue {index}", seen=_queues_there_are(devices), hint="choose one of these"
        )
    return tuple(chosen)


def _queues_there_are(devices: tuple[Device, ...]) -> str:
    texts = []
    for device in devices:
        indices = [queue.index for queue in device.queues or ()]
        texts.append(f"{_name(device)} with {_ranges(indices)}")
    return ", ".join(texts) or "no device"


def _name(device: Device) -> str:
    return device.id if isinstance(device.id, str) else f"#{device.index}"


def _ranges(indices: list[int]) -> str:
    if not indices:
        return "no queue"
    if len(indices) > 1 and indices == list(range(indices[0], indices[-1] + 1)):
        return f"queues {indices[0]} to {indices[-1]}"
    return f"queue{'s' if len(indices) > 1 else ''} {' '.join(map(str, indices))}"


def only_ring(core: Core, device: str | None, queue: int | None) -> tuple[str, int]:
    """Return the device (by index) and queue whose ring is meant.

    Either may be left out where there is only one.

    :raises UsageError: if it was left out and there are several; the message lists them
    """
    devices = core.report({"devices", "queues"}, device=device).devices or ()
    if len(devices) != 1:
        names = ", ".join(f"{_name(each)} ({each.kind})" for each in devices)
        raise UsageError("which device is meant", seen=names or "none", hint="give --device")
    chosen = devices[0]
    indices = [each.index for each in chosen.queues or ()]
    if queue is None and len(indices) != 1:
        raise UsageError(
            "which queue is meant", seen=_queues_there_are((chosen,)), hint="give --queue N"
        )
    return str(chosen.index), indices[0] if queue is None else queue


def exit_code(report: Report, *, queues: bool) -> int:
    """Return 4 where what was asked for may be there and could not be read, else 0.

    No device at all is an answer, unless something stood in the way of finding them; a device
    without queues is one whose queues could not be read.

    :param queues: whether queues were asked for, not devices alone
    """
    devices = report.devices or ()
    found = any(device.queues for device in devices) if queues else bool(devices)
    return EXIT_PARTIAL if report.limits and not found else EXIT_OK
