"""What QEMU itself says about its queues, disks and memory, asked over QMP."""

from __future__ import annotations

from typing import Any

from tests.lab.qmp import Monitor, MonitorRefusedError

_PLAIN_COMMANDS = (
    "query-version",
    "query-status",
    "query-name",
    "query-uuid",
    "query-iothreads",
    "query-cpus-fast",
    "query-pci",
    "query-block",
    "query-named-block-nodes",
    "query-blockstats",
    "query-memory-devices",
    "query-migrate",
    "query-chardev",
)
_SIMPLE_TYPES = ("bool", "str", "string", "int", "uint", "OnOffAuto", "link<", "size", "drive")


def ask(monitor: Monitor) -> dict[str, Any]:
    """All facts at about one moment, keyed by the command that gave them.

    QEMU before 7.2 tells nothing of its virtio devices: ``virtio`` is then not there.
    """
    facts: dict[str, Any] = {name: monitor.execute(name) for name in _PLAIN_COMMANDS}
    paths = _backends(monitor)
    if tells_of_virtio(monitor):
        facts["virtio"] = virtio_devices(monitor)
        paths = [device["path"] for device in facts["virtio"]]
    facts["info mtree -f"] = monitor.human("info mtree -f")
    facts["info qtree"] = monitor.human("info qtree")
    facts["info ramblock"] = monitor.human("info ramblock")
    facts["qom"] = _qom_properties(monitor, paths)
    facts["objects"] = {
        child["name"]: child["type"] for child in monitor.execute("qom-list", path="/objects")
    }
    return facts


def tells_of_virtio(monitor: Monitor) -> bool:
    """Whether QEMU has the commands that ask for virtio devices and their queues."""
    return monitor.knows("x-query-virtio")


def virtio_devices(monitor: Monitor) -> list[dict[str, Any]]:
    """Every device of x-query-virtio with its status and the status of each of its queues."""
    return [_virtio_device(monitor, found) for found in monitor.execute("x-query-virtio")]


def in_use(devices: list[dict[str, Any]], device_id: str) -> dict[int, int]:
    """Requests in flight per queue of the device with this id.

    :raises LookupError: it is not among `devices`
    """
    for device in devices:
        if _is(device["path"], device_id):
            return {queue["queue-index"]: queue["inuse"] for queue in device["queues"]}
    raise LookupError(f"QEMU has no virtio device {device_id}")


def _backends(monitor: Monitor) -> list[str]:
    """The paths of all virtio devices that have an id, by the object tree alone."""
    place = "/machine/peripheral"
    own = {
        f"{place}/{child['name']}": child["type"]
        for child in monitor.execute("qom-list", path=place)
        if child["type"].startswith(("child<virtio-", "child<vhost-"))
    }
    return [f"{path}/virtio-backend" if "-pci" in kind else path for path, kind in own.items()]


def _is(path: str, device_id: str) -> bool:
    # A device of virtio-mmio has the id itself.
    own = f"/machine/peripheral/{device_id}"
    return path in (own, f"{own}/virtio-backend")


def _virtio_device(monitor: Monitor, found: dict[str, Any]) -> dict[str, Any]:
    path = found["path"]
    status = monitor.execute("x-query-virtio-status", path=path)
    if status["vhost-started"]:
        return {**found, "status": status, **_vhost_queues(monitor, path, status["num-vqs"])}
    queues = [
        monitor.execute("x-query-virtio-queue-status", path=path, queue=number)
        for number in range(status["num-vqs"])
    ]
    elements = [
        _element(monitor, path, queue["queue-index"], slot)
        for queue in queues
        for slot in _slots_in_flight(queue)
    ]
    return {**found, "status": status, "queues": queues, "elements": elements}


def _vhost_queues(monitor: Monitor, path: str, count: int) -> dict[str, Any]:
    """What QEMU knows of queues that a vhost back-end runs.

    x-query-virtio-queue-status would ask the back-end, whose ring then stops, or wait for it.
    """
    return {
        "queues": [{"queue-index": number} for number in range(count)],
        "elements": [],
        "vhost_queues": [
            monitor.execute("x-query-virtio-vhost-queue-status", path=path, queue=number)
            for number in range(count)
        ],
    }


def _slots_in_flight(queue: dict[str, Any]) -> list[int]:
    size = queue["vring-num"]
    last = queue.get("last-avail-idx", 0)
    return [(last - back) % size for back in range(1, min(queue["inuse"], size) + 1)]


def _element(monitor: Monitor, path: str, queue: int, slot: int) -> dict[str, Any]:
    asked = {"queue": queue, "slot": slot}
    try:
        answer = monitor.execute("x-query-virtio-queue-element", path=path, queue=queue, index=slot)
    except MonitorRefusedError as refused:
        return {**asked, "error": str(refused)}
    return {**asked, "element": answer}


def _qom_properties(monitor: Monitor, backends: list[str]) -> dict[str, dict[str, Any]]:
    paths = [path for backend in backends for path in (backend, backend.rsplit("/", 1)[0])]
    return {path: _simple_properties(monitor, path) for path in paths}


def _simple_properties(monitor: Monitor, path: str) -> dict[str, Any]:
    values = {}
    for listed in monitor.execute("qom-list", path=path):
        if not listed["type"].startswith(_SIMPLE_TYPES):
            continue
        try:
            values[listed["name"]] = monitor.execute("qom-get", path=path, property=listed["name"])
        except MonitorRefusedError:
            continue  # Some properties can only be written.
    return values
