"""Feature bits of the vhost and vhost-user protocols."""

from __future__ import annotations

VHOST_FEATURES = {26: "VHOST_F_LOG_ALL"}
"""A bit of the feature word between front-end and back-end that is none of virtio's."""

VHOST_USER_FEATURES = {**VHOST_FEATURES, 30: "VHOST_USER_F_PROTOCOL_FEATURES"}
"""As :data:`VHOST_FEATURES`, with a back-end that is another process."""

INFLIGHT_SHMFD = 12

_NAMES = (
    "MQ",
    "LOG_SHMFD",
    "RARP",
    "REPLY_ACK",
    "NET_MTU",
    "BACKEND_REQ",
    "CROSS_ENDIAN",
    "CRYPTO_SESSION",
    "PAGEFAULT",
    "CONFIG",
    "BACKEND_SEND_FD",
    "HOST_NOTIFIER",
    "INFLIGHT_SHMFD",
    "RESET_DEVICE",
    "INBAND_NOTIFICATIONS",
    "CONFIGURE_MEM_SLOTS",
    "STATUS",
    "XEN_MMAP",
    "SHARED_OBJECT",
    "DEVICE_STATE",
)

PROTOCOL_FEATURES = {bit: f"VHOST_USER_PROTOCOL_F_{name}" for bit, name in enumerate(_NAMES)}
"""Names of the protocol feature bits, by their numbers in the vhost-user protocol."""
