"""NBD clients' connections as reports show them (block/nbd.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.block import NbdConnection, NbdSlot
from vringcore.model.values import Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.aio_structs import BDRVNBDState
from vringcore.qemu.enums import enumerator
from vringcore.qemu.nbd import slots
from vringcore.qemu.throttle import expiry
from vringcore.qemu.waiting import waiters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.block import BlockLayer, Node


def nbd_connection(layer: BlockLayer, node: Node) -> NbdConnection:
    """Return the connection of a node whose driver is ``nbd``."""
    views, address = layer.views, int(node.view.opaque)
    client = views.at(BDRVNBDState, address)

    def taken() -> Iterator[NbdSlot]:
        for number, slot in enumerate(slots(views, client)):
            if slot.coroutine:
                yield NbdSlot(
                    slot=number,
                    coroutine=Address(slot.coroutine),
                    offset=attempt(lambda s=slot: s.offset),  # type: ignore[misc]
                    receiving=attempt(lambda s=slot: s.receiving),  # type: ignore[misc]
                )

    def reconnect_timer() -> int | None:
        timer = client.reconnect_delay_timer
        return expiry(views, int(timer)) if timer else None

    return NbdConnection(
        address=Address(address),
        state=attempt(
            lambda: enumerator(views, BDRVNBDState, "state", client.state, "NBD_CLIENT_")
        ),
        server=attempt(lambda: layer.file_of(node)),
        in_flight=attempt(lambda: client.in_flight),
        slots=layer.listed("the slots of an NBD client", taken()),
        waiting=layer.listed(
            "who waits for a slot", map(Address, waiters(layer, client.free_sema))
        ),
        reconnect_delay=attempt(lambda: client.reconnect_delay),
        reconnect_expires_ns=attempt(reconnect_timer),
    )


def is_nbd(node: Node) -> bool:
    """Tell whether a node is an NBD client that was opened."""
    return isinstance(node.driver, str) and node.driver.startswith("nbd") and bool(node.view.opaque)
