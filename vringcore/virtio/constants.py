"""Numbers of the VirtIO specification, version 1.3, with the section each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Descriptor flags, 2.7.5.
DESC_F_NEXT = 1
DESC_F_WRITE = 2
DESC_F_INDIRECT = 4

# Those of a packed ring beside them, 2.8.1.
PACKED_F_AVAIL = 1 << 7
PACKED_F_USED = 1 << 15

# Event suppression structures of a packed ring, 2.8.10: ``desc_event_off_wrap`` and ``flags``.
EVENT_SLOT_MASK = 0x7FFF
EVENT_WRAP = 0x8000
EVENT_ALIGN = 4
EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC = 0, 1, 2

DESC_FLAG_NAMES = {0: "next", 1: "write", 2: "indirect"}
PACKED_FLAG_NAMES = {**DESC_FLAG_NAMES, 7: "avail", 15: "used"}

# Ring flags, 2.7.6 and 2.7.8; without meaning once VIRTIO_F_EVENT_IDX was negotiated.
AVAIL_F_NO_INTERRUPT = 1
USED_F_NO_NOTIFY = 1

# Sizes in bytes, 2.7: a descriptor, an available and a used entry, ``flags`` with ``idx``, and
# the event index behind the entries.
DESC_SIZE = 16
AVAIL_ENTRY_SIZE = 2
USED_ENTRY_SIZE = 8
RING_HEADER_SIZE = 4
EVENT_SIZE = 2

# Alignment of the three parts in bytes, 2.7.
DESC_ALIGN = 16
AVAIL_ALIGN = 2
USED_ALIGN = 4

MAX_QUEUE_SIZE = 32768
"""The largest split queue, 2.7."""

MAX_CHAIN_BYTES = 1 << 32
"""A driver must not build a longer chain, 2.7.5.2."""

USUAL_CHAIN_LIMIT = 1024
"""Buffers in a chain that devices take: 2.7.4 lets them stop at their host's IOV_MAX."""

# Bits of the device status field, 2.1.
STATUS_ACKNOWLEDGE = 0x01
STATUS_DRIVER = 0x02
STATUS_DRIVER_OK = 0x04
STATUS_FEATURES_OK = 0x08
STATUS_NEEDS_RESET = 0x40
STATUS_FAILED = 0x80

STATUS_NAMES = {
    0: "ACKNOWLEDGE",
    1: "DRIVER",
    2: "DRIVER_OK",
    3: "FEATURES_OK",
    4: "SUSPEND",  # VirtIO 1.4
    6: "DEVICE_NEEDS_RESET",
    7: "FAILED",
}

# Device types, the table at the head of chapter 5.
ID_NET = 1
ID_BLOCK = 2
ID_CONSOLE = 3
ID_ENTROPY = 4
ID_BALLOON = 5
ID_SCSI = 8
ID_9P = 9
ID_GPU = 16
ID_RTC = 17
ID_INPUT = 18
ID_VSOCK = 19
ID_CRYPTO = 20
ID_IOMMU = 23
ID_MEM = 24
ID_SOUND = 25
ID_FS = 26
ID_PMEM = 27
ID_SCMI = 32
ID_I2C = 34
ID_CAN = 36
ID_BLUETOOTH = 40
ID_GPIO = 41

DEVICE_NAMES = {
    ID_NET: "virtio-net",
    ID_BLOCK: "virtio-blk",
    ID_CONSOLE: "virtio-console",
    ID_ENTROPY: "virtio-rng",
    ID_BALLOON: "virtio-balloon",
    6: "virtio-iomem",
    7: "virtio-rpmsg",
    ID_SCSI: "virtio-scsi",
    ID_9P: "virtio-9p",
    10: "virtio-mac80211-wlan",
    11: "virtio-rproc-serial",
    12: "virtio-caif",
    13: "virtio-memory-balloon",
    ID_GPU: "virtio-gpu",
    ID_RTC: "virtio-rtc",
    ID_INPUT: "virtio-input",
    ID_VSOCK: "virtio-vsock",
    ID_CRYPTO: "virtio-crypto",
    21: "virtio-signal-dist",
    22: "virtio-pstore",
    ID_IOMMU: "virtio-iommu",
    ID_MEM: "virtio-mem",
    ID_SOUND: "virtio-sound",
    ID_FS: "virtio-fs",
    ID_PMEM: "virtio-pmem",
    28: "virtio-rpmb",
    29: "virtio-mac80211-hwsim",
    30: "virtio-video-encoder",
    31: "virtio-video-decoder",
    ID_SCMI: "virtio-scmi",
    33: "virtio-nitro-secure-module",
    ID_I2C: "virtio-i2c",
    35: "virtio-watchdog",
    ID_CAN: "virtio-can",
    37: "virtio-dmabuf",  # only Linux's virtio_ids.h has it
    38: "virtio-parameter-server",
    39: "virtio-audio-policy",
    ID_BLUETOOTH: "virtio-bluetooth",
    ID_GPIO: "virtio-gpio",
    42: "virtio-rdma",
    43: "virtio-camera",
    44: "virtio-ism",
    45: "virtio-spi",
    46: "virtio-tee",  # 46 to 49: VirtIO 1.4
    47: "virtio-cpu-balloon",
    48: "virtio-media",
    49: "virtio-usb",
}


def device_name(device_id: int) -> str:
    """Return the name of a device type (``virtio-blk``), ``virtio-id-N`` for an unknown one."""
    return DEVICE_NAMES.get(device_id) or f"virtio-id-{device_id}"


def bit_names(value: int, names: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of the bits that are on, lowest first; unknown ones as ``bit N``.

    :param value: the bit set, of any width, not negative
    :param names: name by bit number
    """
    return tuple(
        names.get(bit) or f"bit {bit}" for bit in range(value.bit_length()) if value >> bit & 1
    )


def status_names(status: int) -> tuple[str, ...]:
    """Return the names of the bits of a device status field (2.1)."""
    return bit_names(status, STATUS_NAMES)


def desc_flag_names(flags: int) -> tuple[str, ...]:
    """Return the names of a split-ring descriptor's flags (2.7.5)."""
    return bit_names(flags, DESC_FLAG_NAMES)


def packed_flag_names(flags: int) -> tuple[str, ...]:
    """Return the names of a packed-ring descriptor's flags (2.8.1 and 2.8.13)."""
    return bit_names(flags, PACKED_FLAG_NAMES)
