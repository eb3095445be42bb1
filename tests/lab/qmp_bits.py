"""The numbers of the feature and status bits that QMP names, from Linux's own headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

HEADERS = Path("/usr/include/linux")

_DEFINE = re.compile(r"#define\s+(\w+)\s+(\d+|0x[0-9a-f]+)\b")

_NOT_IN_LINUX = {
    "VHOST_USER_F_PROTOCOL_FEATURES": 30,  # QEMU, docs/interop/vhost-user
    "VIRTIO_MEM_F_PERSISTENT_SUSPND": 2,  # so spelt by QEMU
}

_OTHER_NAMES = {
    "VIRTIO_RING_F_INDIRECT_DESC": "VIRTIO_F_INDIRECT_DESC",
    "VIRTIO_RING_F_EVENT_IDX": "VIRTIO_F_EVENT_IDX",
    "VIRTIO_F_IOMMU_PLATFORM": "VIRTIO_F_ACCESS_PLATFORM",
    "VHOST_USER_F_PROTOCOL_FEATURES": "VIRTIO_F_BAD_FEATURE",
    "VIRTIO_MEM_F_PERSISTENT_SUSPND": "VIRTIO_MEM_F_PERSISTENT_SUSPEND",
    "VIRTIO_BLK_F_WCE": "VIRTIO_BLK_F_FLUSH",
}


def feature_word(features: dict[str, Any]) -> int:
    """Return the feature word that x-query-virtio-status spells out."""
    word: int = features.get("unknown-dev-features", 0)
    for name in _names(features):
        word |= 1 << _number(name)
    return word


def feature_names(features: dict[str, Any]) -> set[str]:
    """Return the names of the features as the VirtIO specification spells them."""
    return {_OTHER_NAMES.get(name, name) for name in _names(features)}


def status_word(status: dict[str, Any]) -> int:
    """Return the device status byte; Linux defines its bits as values."""
    word: int = status.get("unknown-statuses", 0)
    for line in status["statuses"]:
        word |= _number(line.partition(":")[0])
    return word


def status_names(status: dict[str, Any]) -> set[str]:
    """Return the names of the status bits as the VirtIO specification spells them."""
    names = {line.partition(":")[0].removeprefix("VIRTIO_CONFIG_S_") for line in status["statuses"]}
    return {"DEVICE_NEEDS_RESET" if name == "NEEDS_RESET" else name for name in names}


def _names(features: dict[str, Any]) -> Iterator[str]:
    for line in features["dev-features"] + features["transports"]:
        yield line.partition(":")[0]


def _number(name: str) -> int:
    known = {**_NOT_IN_LINUX, **_linux()}
    return known[name] if name in known else known[_OTHER_NAMES[name]]


@cache
def _linux() -> dict[str, int]:
    numbers = {"VIRTIO_F_RING_RESET": 40}  # since Linux 6.0's headers
    for path in sorted(HEADERS.glob("virtio_*.h")):
        for name, number in _DEFINE.findall(path.read_text()):
            if "_F_" in name or "_CONFIG_S_" in name:
                numbers.setdefault(name, int(number, 0))
    return numbers
