"""The header of a request, whatever the device: one entry for all (VirtIO 1.3, chapter 5).

    header = read_header(chain, memory, device_id=ID_SCSI, role="request0")
    print(header.operation, header.subject)

The role of a queue is what :func:`vringcore.virtio.roles.queue_role` says. Reading touches the
header's own bytes and none behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.virtio import blk, buses, crypto, files, gpu, net, ports, ram, scsi, sound
from vringcore.virtio import constants as c
from vringcore.virtio.fields import Header, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.memory.space import AddressSpace
    from vringcore.virtio.chain import Chain
    from vringcore.virtio.fields import Decoder

DECODERS: dict[int, Decoder] = {
    c.ID_NET: net.decode,
    c.ID_BLOCK: blk.decode,
    c.ID_CONSOLE: ports.console,
    c.ID_ENTROPY: ram.entropy,
    c.ID_BALLOON: ram.balloon,
    c.ID_SCSI: scsi.decode,
    c.ID_9P: files.plan9,
    c.ID_GPU: gpu.decode,
    c.ID_INPUT: ports.events,
    c.ID_VSOCK: ports.socket,
    c.ID_CRYPTO: crypto.decode,
    c.ID_IOMMU: ram.iommu,
    c.ID_MEM: ram.memory,
    c.ID_SOUND: sound.decode,
    c.ID_FS: files.file_system,
    c.ID_PMEM: ram.persistent_memory,
    c.ID_SCMI: buses.scmi,
    c.ID_I2C: buses.i2c,
    c.ID_GPIO: buses.gpio,
}
"""By device id, what reads the header of its requests."""


def read_header(
    chain: Chain,
    space: AddressSpace[Any],
    *,
    device_id: int,
    role: str,
    features: int = 0,
    big_endian: bool = False,
) -> Header | None:
    """Return what the header of a chain's request says; None for a device that has no decoder.

    :param space: where the chain's buffers lie
    :param features: the negotiated feature word; a network device's header depends on it
    :raises MemoryFault: if the header cannot be read
    :raises AddressOverflowError: if its buffer leaves the address space
    """
    buffers = [(each.address, each.length) for each in chain.buffers(writable=False)]
    return header_of_buffers(
        buffers,
        chain.writable_bytes,
        space,
        device_id=device_id,
        role=role,
        features=features,
        big_endian=big_endian,
    )


def header_of_buffers(
    readable: Sequence[tuple[int, int]],
    writable: int,
    space: AddressSpace[Any],
    *,
    device_id: int,
    role: str,
    features: int = 0,
    big_endian: bool = False,
) -> Header | None:
    """Return what a header says that lies in ``readable``, (address, length) of buffers.

    :param writable: bytes that the device may write; the rest as in :func:`read_header`
    """
    decoder = DECODERS.get(device_id)
    if decoder is None:
        return None
    return decoder(
        Request(space, readable, writable, role=role, features=features, big_endian=big_endian)
    )
