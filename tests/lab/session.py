"""A case being made: the running servers and VM, and the steps an incident is built from."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.lab import attached, qmp_facts
from tests.lab.backend import Backend
from tests.lab.machine import GuestError, Machine
from tests.lab.nbd import HeldRequest, NbdServer
from tests.lab.qmp import MonitorSilentError
from tests.lab.scenario import Device, Scenario

_SETTLE_SECONDS = 3.0
_ATTEMPTS = 10


class Session:
    """Handed to a scenario's incident; keeps what QEMU and the servers said."""

    def __init__(
        self,
        scenario: Scenario,
        machine: Machine,
        servers: list[NbdServer],
        backends: dict[str, Backend],
    ) -> None:
        self.scenario = scenario
        self.machine = machine
        self.servers = {server.name: server for server in servers}
        self.backends = backends
        self.facts: dict[str, Any] | None = None
        self.devices: list[dict[str, Any]] | None = None
        self.notes: dict[str, Any] = {}

    def ask(self) -> None:
        """Records what QEMU says now; the last call before the core wins."""
        self.facts = qmp_facts.ask(self.machine.monitor)
        self.devices = self.facts.get("virtio") or self.virtio_devices()

    def virtio_devices(self) -> list[dict[str, Any]]:
        """Every device and its queues, as QEMU's monitor has them, or else gdb."""
        if qmp_facts.tells_of_virtio(self.machine.monitor):
            return qmp_facts.virtio_devices(self.machine.monitor)
        return attached.virtio_devices(self.machine.pid)

    def in_use(self, device_id: str) -> dict[int, int]:
        """Requests in flight per queue of the device with this id."""
        return qmp_facts.in_use(self.virtio_devices(), device_id)

    def stop_server(self, device: Device, requests: int | None = None) -> None:
        """Freezes the server of a disk so that every queue has requests that never return.

        :param requests: how many the server must hold; needed where QEMU counts descriptors, of
            which a request has several, as in packed rings
        """
        server = self.servers[str(device.server)]
        self._hold(device, server, server.stop, server.resume, requests=requests)

    def close_gate(self, device: Device, count: int) -> None:
        """Lets the server of a disk hold all requests, until `count` of them are in flight."""
        server = self.servers[str(device.server)]
        self._hold(device, server, server.close_gate, server.open_gate, count)

    def wait_held(self, server: str, count: int, seconds: float = 60.0) -> list[HeldRequest]:
        """Waits until a server holds at least `count` requests; returns them."""
        holder = self.servers[server]
        self.wait_until(
            lambda: len(holder.held()) >= count, f"{server} holds {count} requests", seconds
        )
        return holder.held()

    def wait_until(
        self, condition: Callable[[], bool], meaning: str, seconds: float = 60.0
    ) -> None:
        """Waits for a condition; `meaning` completes "waited in vain until ..."."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise GuestError(f"waited {seconds} s in vain until {meaning}")
            time.sleep(0.2)

    def migrate_until_hung(self, seconds: float = 240.0) -> None:
        """Starts a migration and waits until the monitor is silent: the VM hangs in its end."""
        monitor = self.machine.monitor
        monitor.execute("migrate", uri="exec:cat>/dev/null")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                status = monitor.execute("query-migrate", seconds=10)
            except MonitorSilentError:
                return
            if status.get("status") in ("completed", "failed", "cancelled"):
                raise GuestError(f"the migration did not hang: {status}")
            time.sleep(0.5)
        raise GuestError("the migration neither hung nor ended")

    def expect_silence(self, command: str, seconds: float = 5.0, **arguments: Any) -> None:
        """Gives a command that QEMU must not be able to answer."""
        try:
            answer = self.machine.monitor.execute(command, seconds, **arguments)
        except MonitorSilentError:
            return
        raise GuestError(f"{command} did not hang: {answer}")

    def answers(self, seconds: float = 5.0) -> bool:
        """Whether the monitor answers in time."""
        try:
            self.machine.monitor.execute("query-status", seconds)
        except MonitorSilentError:
            return False
        return True

    def settle(self) -> None:
        """Waits until nothing moves any more."""
        time.sleep(_SETTLE_SECONDS)

    def _hold(
        self,
        device: Device,
        server: NbdServer,
        hold: Callable[[], None],
        release: Callable[[], None],
        count: int = 1,
        *,
        requests: int | None = None,
    ) -> None:
        """Holds requests, again and again until server and QEMU agree on how many are in flight.

        A stop may fall between the log line that ends a request and its answer on the wire. And
        QEMU 7.2's NBD client may have read an answer that it cannot act upon before the next one
        comes: the request's coroutine then waits for `receive_mutex`, held by one that reads.
        """
        in_use: dict[int, int] = {}
        for _ in range(_ATTEMPTS):
            hold()
            self.settle()
            in_use = self.in_use(device.id)
            total = sum(in_use.values())
            expected = total if requests is None else requests
            if all(in_use.values()) and total >= count and expected == len(server.held()):
                return
            release()
            time.sleep(1)
        raise GuestError(
            f"{device.id}: server and QEMU never agreed on what is in flight;"
            f" at last {in_use} and {len(server.held())}"
        )
