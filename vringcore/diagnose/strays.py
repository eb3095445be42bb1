"""Requests of a disk that are known by their coroutines alone: no element was found for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose.disks import disks
from vringcore.diagnose.held import Held
from vringcore.diagnose.values import many
from vringcore.model.requests import InFlight

if TYPE_CHECKING:
    from vringcore.diagnose.facts import Facts


def strays(facts: Facts) -> tuple[Held, ...]:
    """Return the tracked requests of each disk's root node that belong to no element."""
    tracked = facts.coroutine_of_tracked
    places = {int(co.address): co.waits_in for co in facts.coroutines}
    known = {
        tracked.get(int(place.address))
        for held in facts.elements
        for place in held.request.waits_in
        if place.place == "tracked-request"
    }
    found: dict[int, Held] = {}
    for disk in disks(facts):
        node = facts.node(disk.node) if disk.node else None
        for each in many(node.tracked) if node is not None else ():
            co = int(each.coroutine)
            if co in known or co in found:
                continue
            summary = f"{each.kind} of {each.bytes} bytes at {each.offset} of node {disk.node}"
            request = InFlight(0, "coroutine", summary, waits_in=places.get(co, ()))
            found[co] = Held(disk.device, None, request, co)
    return tuple(found.values())
