"""Names of features, devices and status bits, against Linux's headers where they are installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vringcore.virtio.constants import bit_names, desc_flag_names, device_name, status_names
from vringcore.virtio.features import DEVICE_FEATURES, EVENT_IDX, feature_names, has_feature

HEADERS = Path("/usr/include/linux")
DEFINE = re.compile(r"^#\s*define\s+(VIRTIO_\w+)\s+(\d+)\b", re.MULTILINE)

FEATURE_HEADERS = {
    1: "virtio_net.h",
    2: "virtio_blk.h",
    3: "virtio_console.h",
    5: "virtio_balloon.h",
    8: "virtio_scsi.h",
    16: "virtio_gpu.h",
    19: "virtio_vsock.h",
    23: "virtio_iommu.h",
    24: "virtio_mem.h",
    32: "virtio_scmi.h",
    34: "virtio_i2c.h",
    40: "virtio_bt.h",
    41: "virtio_gpio.h",
}

LINUX_NAMES = {"VIRTIO_BALLOON_F_REPORTING": "VIRTIO_BALLOON_F_PAGE_REPORTING"}
"""Linux's name of a feature: the specification's."""

LINUX_IDS = {
    "block": "blk",
    "clock": "rtc",
    "nitro-sec-mod": "nitro-secure-module",
    "i2c-adapter": "i2c",
    "param-serv": "parameter-server",
    "bt": "bluetooth",
}
"""Linux's name of a device id: ours, where they differ."""


def defines(name: str) -> dict[str, int]:
    path = HEADERS / name
    if not path.exists():
        pytest.skip(f"{path} is not installed (linux-libc-dev)")
    return {key: int(value) for key, value in DEFINE.findall(path.read_text())}


@pytest.mark.parametrize(("device_id", "header"), FEATURE_HEADERS.items())
def test_device_features_are_linux_s(device_id: int, header: str) -> None:
    own = re.compile(r"VIRTIO_[A-Z0-9]+_F_\w+")
    linux = {
        LINUX_NAMES.get(key, key): bit
        for key, bit in defines(header).items()
        if own.fullmatch(key) and not key.startswith(("VIRTIO_NET_HDR_F", "VIRTIO_IOMMU_FAULT"))
    }
    ours = DEVICE_FEATURES[device_id]
    assert linux.keys() & ours.values()
    for name, bit in linux.items():
        # A newer header may have bits that we do not know; none may have another name or place.
        assert ours.get(bit, name) == name
        assert name not in ours.values() or ours.get(bit) == name


def test_shared_features_are_linux_s() -> None:
    shared = defines("virtio_config.h") | defines("virtio_ring.h")
    shared = {key.replace("_RING_F_", "_F_"): bit for key, bit in shared.items()}
    linux = {key: bit for key, bit in shared.items() if key.startswith("VIRTIO_F_")}
    assert len(linux) >= 10
    for name, bit in linux.items():
        assert feature_names(0, 1 << bit) == (name,)


def test_device_names_are_linux_s() -> None:
    for key, number in defines("virtio_ids.h").items():
        linux = key.removeprefix("VIRTIO_ID_").lower().replace("_", "-")
        assert device_name(number) == f"virtio-{LINUX_IDS.get(linux, linux)}"


def test_a_feature_word_of_a_disk() -> None:
    word = 1 << 1 | 1 << 2 | 1 << 9 | 1 << 28 | 1 << 29 | 1 << 32 | 1 << 3 | 1 << 63
    assert feature_names(2, word) == (
        "VIRTIO_BLK_F_SIZE_MAX",
        "VIRTIO_BLK_F_SEG_MAX",
        "bit 3",
        "VIRTIO_BLK_F_FLUSH",
        "VIRTIO_F_INDIRECT_DESC",
        "VIRTIO_F_EVENT_IDX",
        "VIRTIO_F_VERSION_1",
        "bit 63",
    )


def test_words_beyond_64_bits() -> None:
    assert feature_names(1, 1 << 65 | 1 << 127) == ("VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO", "bit 127")


def test_the_bits_of_an_unknown_device_are_numbers() -> None:
    assert feature_names(999, 1 | 1 << 34) == ("bit 0", "VIRTIO_F_RING_PACKED")
    assert device_name(999) == "virtio-id-999"


def test_no_device_claims_a_bit_that_all_devices_share_2_2() -> None:
    for bits in DEVICE_FEATURES.values():
        assert all(bit < 24 or bit > 41 for bit in bits)


def test_no_feature_is_no_name() -> None:
    assert feature_names(2, 0) == ()
    assert has_feature(1 << 29, EVENT_IDX)
    assert not has_feature(1 << 28, EVENT_IDX)


def test_device_status_2_1() -> None:
    assert status_names(0x0F) == ("ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK")
    assert status_names(0xE0) == ("bit 5", "DEVICE_NEEDS_RESET", "FAILED")


def test_descriptor_flags_2_7_5() -> None:
    assert desc_flag_names(0) == ()
    assert desc_flag_names(0x8007) == ("next", "write", "indirect", "bit 15")


def test_bit_names_go_from_low_to_high() -> None:
    assert bit_names(0b1010, {1: "one"}) == ("one", "bit 3")
