"""Feature bits by name, for each device type.

Bits 24 to 41 belong to queues and transport (VirtIO 1.3, 2.2 and chapter 6), the others to the
device type (the section "Feature bits" of each device in chapter 5). Names are the
specification's. What only VirtIO 1.4 defines is said so; no bit changed its meaning between the
two.
"""

from __future__ import annotations

from vringcore.virtio import constants as c
from vringcore.virtio.constants import bit_names

NOTIFY_ON_EMPTY = 24
ANY_LAYOUT = 27
INDIRECT_DESC = 28
EVENT_IDX = 29
VERSION_1 = 32
ACCESS_PLATFORM = 33
RING_PACKED = 34
IN_ORDER = 35
NOTIFICATION_DATA = 38
RING_RESET = 40

RESERVED_FEATURES = {
    NOTIFY_ON_EMPTY: "VIRTIO_F_NOTIFY_ON_EMPTY",  # legacy, 6.3
    ANY_LAYOUT: "VIRTIO_F_ANY_LAYOUT",  # legacy, 6.3
    INDIRECT_DESC: "VIRTIO_F_INDIRECT_DESC",
    EVENT_IDX: "VIRTIO_F_EVENT_IDX",
    # "Unused" in 6.3: a legacy device offers it to catch drivers that accept anything.
    30: "VIRTIO_F_BAD_FEATURE",
    VERSION_1: "VIRTIO_F_VERSION_1",
    ACCESS_PLATFORM: "VIRTIO_F_ACCESS_PLATFORM",
    RING_PACKED: "VIRTIO_F_RING_PACKED",
    IN_ORDER: "VIRTIO_F_IN_ORDER",
    36: "VIRTIO_F_ORDER_PLATFORM",
    37: "VIRTIO_F_SR_IOV",
    NOTIFICATION_DATA: "VIRTIO_F_NOTIFICATION_DATA",
    39: "VIRTIO_F_NOTIF_CONFIG_DATA",
    RING_RESET: "VIRTIO_F_RING_RESET",
    41: "VIRTIO_F_ADMIN_VQ",
    43: "VIRTIO_F_SUSPEND",  # VirtIO 1.4
}
"""Feature bits that every device type shares, chapter 6."""

_NET = {  # 5.1.3
    0: "VIRTIO_NET_F_CSUM",
    1: "VIRTIO_NET_F_GUEST_CSUM",
    2: "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS",
    3: "VIRTIO_NET_F_MTU",
    5: "VIRTIO_NET_F_MAC",
    6: "VIRTIO_NET_F_GSO",  # legacy
    7: "VIRTIO_NET_F_GUEST_TSO4",
    8: "VIRTIO_NET_F_GUEST_TSO6",
    9: "VIRTIO_NET_F_GUEST_ECN",
    10: "VIRTIO_NET_F_GUEST_UFO",
    11: "VIRTIO_NET_F_HOST_TSO4",
    12: "VIRTIO_NET_F_HOST_TSO6",
    13: "VIRTIO_NET_F_HOST_ECN",
    14: "VIRTIO_NET_F_HOST_UFO",
    15: "VIRTIO_NET_F_MRG_RXBUF",
    16: "VIRTIO_NET_F_STATUS",
    17: "VIRTIO_NET_F_CTRL_VQ",
    18: "VIRTIO_NET_F_CTRL_RX",
    19: "VIRTIO_NET_F_CTRL_VLAN",
    20: "VIRTIO_NET_F_CTRL_RX_EXTRA",
    21: "VIRTIO_NET_F_GUEST_ANNOUNCE",
    22: "VIRTIO_NET_F_MQ",
    23: "VIRTIO_NET_F_CTRL_MAC_ADDR",
    42: "VIRTIO_NET_F_GUEST_RSC6",  # legacy; its sibling, bit 41, is VIRTIO_F_ADMIN_VQ today
    50: "VIRTIO_NET_F_DEVICE_STATS",  # VirtIO 1.4
    51: "VIRTIO_NET_F_HASH_TUNNEL",
    52: "VIRTIO_NET_F_VQ_NOTF_COAL",
    53: "VIRTIO_NET_F_NOTF_COAL",
    54: "VIRTIO_NET_F_GUEST_USO4",
    55: "VIRTIO_NET_F_GUEST_USO6",
    56: "VIRTIO_NET_F_HOST_USO",
    57: "VIRTIO_NET_F_HASH_REPORT",
    59: "VIRTIO_NET_F_GUEST_HDRLEN",
    60: "VIRTIO_NET_F_RSS",
    61: "VIRTIO_NET_F_RSC_EXT",
    62: "VIRTIO_NET_F_STANDBY",
    63: "VIRTIO_NET_F_SPEED_DUPLEX",
    64: "VIRTIO_NET_F_RSS_CONTEXT",  # 64 to 70: VirtIO 1.4
    65: "VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO",
    66: "VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM",
    67: "VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO",
    68: "VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM",
    69: "VIRTIO_NET_F_OUT_NET_HEADER",
    70: "VIRTIO_NET_F_IPSEC",
}

_BLOCK = {  # 5.2.3
    0: "VIRTIO_BLK_F_BARRIER",  # legacy
    1: "VIRTIO_BLK_F_SIZE_MAX",
    2: "VIRTIO_BLK_F_SEG_MAX",
    4: "VIRTIO_BLK_F_GEOMETRY",
    5: "VIRTIO_BLK_F_RO",
    6: "VIRTIO_BLK_F_BLK_SIZE",
    7: "VIRTIO_BLK_F_SCSI",  # legacy
    9: "VIRTIO_BLK_F_FLUSH",
    10: "VIRTIO_BLK_F_TOPOLOGY",
    11: "VIRTIO_BLK_F_CONFIG_WCE",
    12: "VIRTIO_BLK_F_MQ",
    13: "VIRTIO_BLK_F_DISCARD",
    14: "VIRTIO_BLK_F_WRITE_ZEROES",
    15: "VIRTIO_BLK_F_LIFETIME",
    16: "VIRTIO_BLK_F_SECURE_ERASE",
    17: "VIRTIO_BLK_F_ZONED",
}

_CONSOLE = {  # 5.3.3
    0: "VIRTIO_CONSOLE_F_SIZE",
    1: "VIRTIO_CONSOLE_F_MULTIPORT",
    2: "VIRTIO_CONSOLE_F_EMERG_WRITE",
}

_BALLOON = {  # 5.5.3
    0: "VIRTIO_BALLOON_F_MUST_TELL_HOST",
    1: "VIRTIO_BALLOON_F_STATS_VQ",
    2: "VIRTIO_BALLOON_F_DEFLATE_ON_OOM",
    3: "VIRTIO_BALLOON_F_FREE_PAGE_HINT",
    4: "VIRTIO_BALLOON_F_PAGE_POISON",
    5: "VIRTIO_BALLOON_F_PAGE_REPORTING",
}

_SCSI = {  # 5.6.3
    0: "VIRTIO_SCSI_F_INOUT",
    1: "VIRTIO_SCSI_F_HOTPLUG",
    2: "VIRTIO_SCSI_F_CHANGE",
    3: "VIRTIO_SCSI_F_T10_PI",
}

_9P = {0: "VIRTIO_9P_MOUNT_TAG"}  # not in the specification: Linux's virtio_9p.h

_GPU = {  # 5.7.3
    0: "VIRTIO_GPU_F_VIRGL",
    1: "VIRTIO_GPU_F_EDID",
    2: "VIRTIO_GPU_F_RESOURCE_UUID",
    3: "VIRTIO_GPU_F_RESOURCE_BLOB",
    4: "VIRTIO_GPU_F_CONTEXT_INIT",
    5: "VIRTIO_GPU_F_BLOB_ALIGNMENT",  # VirtIO 1.4
}

_VSOCK = {  # 5.10.3
    0: "VIRTIO_VSOCK_F_STREAM",
    1: "VIRTIO_VSOCK_F_SEQPACKET",
    2: "VIRTIO_VSOCK_F_NO_IMPLIED_STREAM",
}

_CRYPTO = {  # 5.9.3
    0: "VIRTIO_CRYPTO_F_REVISION_1",
    1: "VIRTIO_CRYPTO_F_CIPHER_STATELESS_MODE",
    2: "VIRTIO_CRYPTO_F_HASH_STATELESS_MODE",
    3: "VIRTIO_CRYPTO_F_MAC_STATELESS_MODE",
    4: "VIRTIO_CRYPTO_F_AEAD_STATELESS_MODE",
    5: "VIRTIO_CRYPTO_F_AKCIPHER_STATELESS_MODE",
}

_IOMMU = {  # 5.13.3
    0: "VIRTIO_IOMMU_F_INPUT_RANGE",
    1: "VIRTIO_IOMMU_F_DOMAIN_RANGE",
    2: "VIRTIO_IOMMU_F_MAP_UNMAP",
    3: "VIRTIO_IOMMU_F_BYPASS",
    4: "VIRTIO_IOMMU_F_PROBE",
    5: "VIRTIO_IOMMU_F_MMIO",
    6: "VIRTIO_IOMMU_F_BYPASS_CONFIG",
}

_MEM = {  # 5.15.3
    0: "VIRTIO_MEM_F_ACPI_PXM",
    1: "VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE",
    2: "VIRTIO_MEM_F_PERSISTENT_SUSPEND",  # VirtIO 1.4
}

_CAN = {  # VirtIO 1.4
    0: "VIRTIO_CAN_F_CAN_CLASSIC",
    1: "VIRTIO_CAN_F_CAN_FD",
    2: "VIRTIO_CAN_F_RTR_FRAMES",
    3: "VIRTIO_CAN_F_LATE_TX_ACK",
}

_BLUETOOTH = {  # not in the specification: Linux's virtio_bt.h
    0: "VIRTIO_BT_F_VND_HCI",
    1: "VIRTIO_BT_F_MSFT_EXT",
    2: "VIRTIO_BT_F_AOSP_EXT",
    3: "VIRTIO_BT_F_CONFIG_V2",
}

DEVICE_FEATURES: dict[int, dict[int, str]] = {
    c.ID_NET: _NET,
    c.ID_BLOCK: _BLOCK,
    c.ID_CONSOLE: _CONSOLE,
    c.ID_ENTROPY: {},  # 5.4.3: none
    c.ID_BALLOON: _BALLOON,
    c.ID_SCSI: _SCSI,
    c.ID_9P: _9P,
    c.ID_GPU: _GPU,
    c.ID_RTC: {0: "VIRTIO_RTC_F_ALARM"},  # VirtIO 1.4
    c.ID_INPUT: {},  # 5.8.3: none
    c.ID_VSOCK: _VSOCK,
    c.ID_CRYPTO: _CRYPTO,
    c.ID_IOMMU: _IOMMU,
    c.ID_MEM: _MEM,
    c.ID_SOUND: {0: "VIRTIO_SND_F_CTLS"},  # 5.14.3
    c.ID_FS: {0: "VIRTIO_FS_F_NOTIFICATION"},  # 5.11.3
    c.ID_PMEM: {0: "VIRTIO_PMEM_F_SHMEM_REGION"},  # 5.19.3
    c.ID_SCMI: {0: "VIRTIO_SCMI_F_P2A_CHANNELS", 1: "VIRTIO_SCMI_F_SHARED_MEMORY"},  # 5.17.3
    c.ID_I2C: {0: "VIRTIO_I2C_F_ZERO_LENGTH_REQUEST"},  # 5.16.3
    c.ID_CAN: _CAN,
    c.ID_BLUETOOTH: _BLUETOOTH,
    c.ID_GPIO: {0: "VIRTIO_GPIO_F_IRQ"},  # 5.18.3
}
"""The feature bits of each device type's own, by device id."""


def feature_names(device_id: int, features: int) -> tuple[str, ...]:
    """Return the names of the feature bits that are on, lowest first; unknown ones as ``bit N``.

    :param device_id: the device type (5), whose own bits are named; any other number is allowed
    :param features: the feature word, of any width (VirtIO 1.4 uses up to 128 bits)
    """
    return bit_names(features, RESERVED_FEATURES | DEVICE_FEATURES.get(device_id, {}))


def has_feature(features: int, bit: int) -> bool:
    """Tell whether a feature bit is on."""
    return bool(features >> bit & 1)
