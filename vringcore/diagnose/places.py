"""Requests by the place where they wait: who has to answer, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose.facts import LONG_NS, SLOW_NS
from vringcore.diagnose.values import text
from vringcore.diagnose.words import counted, device_name, duration, short_server
from vringcore.model.block import NbdConnection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Held
    from vringcore.model.block import Node

STUCK, WARNING, NOTE = "stuck", "warning", "note"
HIGH, MEDIUM, LOW = "high", "medium", "low"

YOUNG_NS = 500_000_000
"""A request that began within so long before the newest shows that its queue moves."""


class Group:
    """Requests of one device that wait in the same kind of place at the same node."""

    __slots__ = ("device", "guest_idles", "guest_moves", "node", "requests")

    def __init__(self, facts: Facts, requests: tuple[Held, ...]) -> None:
        """Take at least one request; all are of one device and node."""
        self.guest_idles = facts.guest_idles
        self.guest_moves = facts.moves(requests[0].device)
        self.device = requests[0].device
        self.node = requests[0].last.node if requests[0].last is not None else ""
        self.requests = requests

    @property
    def ages(self) -> list[int]:
        """Lower bounds of the ages that are known, the oldest first."""
        known = [held.age for held in self.requests if held.age is not None]
        return sorted(known, reverse=True)

    @property
    def oldest(self) -> int | None:
        """Age of the oldest, None if none is known."""
        return self.ages[0] if self.ages else None

    @property
    def exact(self) -> bool:
        """Whether the oldest's age is more than a lower bound."""
        return any(held.age == self.oldest and held.age_is_exact for held in self.requests)

    @property
    def old(self) -> tuple[Held, ...]:
        """The requests that have been under way for too long; all of them if none has."""
        slow = tuple(held for held in self.requests if (held.age or 0) >= SLOW_NS)
        return slow or self.requests

    @property
    def moves(self) -> int:
        """How many began much later than the oldest: the place answers others meanwhile."""
        oldest = self.oldest or 0
        return sum(age < YOUNG_NS and oldest >= SLOW_NS for age in self.ages)

    @property
    def confidence(self) -> str:
        """How sure it is that they are stuck: by their age, and by what moves beside them."""
        oldest = self.oldest or 0
        if oldest >= LONG_NS:
            return HIGH
        return LOW if oldest < SLOW_NS else MEDIUM

    @property
    def severity(self) -> str:
        """``stuck`` once they are slow; with an age unknown, if the guest does nothing but wait.

        A guest that works on the device shows that it moves.
        """
        if (self.oldest or 0) >= SLOW_NS:
            return STUCK
        if self.exact or self.guest_moves:
            return NOTE
        return STUCK if self.guest_idles else WARNING

    @property
    def since(self) -> str:
        """When, for a sentence: `` at least 4.0 s ago``; "" if nothing is known."""
        if self.oldest is None or (self.oldest < YOUNG_NS and not self.exact):
            return ""
        return f" {'' if self.exact else 'at least '}{duration(self.oldest)} ago"

    @property
    def what(self) -> str:
        """``8 requests of disk0 (virtio-blk)``, or ``1 of 4 requests``."""
        old, all_ = len(self.old), len(self.requests)
        number = counted(all_, "request") if old == all_ else f"{old} of {all_} requests"
        return f"{number} of {device_name(self.device)}"

    @property
    def unknown_age(self) -> str:
        """The reservation to add where the age is not known; "" where it is."""
        if self.exact or (self.oldest or 0) >= SLOW_NS:
            return ""
        return "; for how long, this core does not tell"


def groups(facts: Facts, requests: Iterable[Held]) -> list[Group]:
    """Return requests by device and node, in the order of the devices."""
    found: dict[tuple[int, str], list[Held]] = {}
    for held in requests:
        node = held.last.node if held.last is not None else ""
        found.setdefault((held.device.index, node), []).append(held)
    return [Group(facts, tuple(each)) for _, each in sorted(found.items())]


def client_of(node: Node | None) -> NbdConnection | None:
    """Return the NBD client of a node, None if it has none or it could not be read."""
    return node.nbd if node is not None and isinstance(node.nbd, NbdConnection) else None


def server_of(facts: Facts, node: str) -> str:
    """Return where the NBD client of a node is connected to, "" if that is not known."""
    client = client_of(facts.node(node))
    return "" if client is None else text(client.server)


def server_name(facts: Facts, node: str) -> str:
    """Return which server the NBD client of a node has, for a sentence: ``of node nbd0 (name)``."""
    server = short_server(server_of(facts, node))
    return f"of node {node}" + (f" ({server})" if server else "")
