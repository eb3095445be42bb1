"""The use of each queue, by the queue lists of VirtIO 1.3, chapter 5."""

from __future__ import annotations

import pytest

from vringcore.virtio.roles import queue_role


@pytest.mark.parametrize(
    ("device_id", "features", "roles"),
    [
        (1, 0, ["rx0", "tx0"]),
        (1, 1 << 17, ["rx0", "tx0", "control"]),
        (1, 1 << 17 | 1 << 22, ["rx0", "tx0", "rx1", "tx1", "control"]),
        (2, 0, ["requests"]),
        (2, 1 << 12, ["requests0", "requests1", "requests2"]),
        (3, 2, ["rx0", "tx0", "control-rx", "control-tx", "rx1", "tx1"]),
        (4, 0, ["requests"]),
        (5, 1 << 1, ["inflate", "deflate", "stats"]),
        (5, 1 << 1 | 1 << 3, ["inflate", "deflate", "stats", "free-page"]),
        (5, 1 << 1 | 1 << 5, ["inflate", "deflate", "stats", "reporting"]),
        (5, 0x2A, ["inflate", "deflate", "stats", "free-page", "reporting"]),
        (8, 0, ["control", "event", "request0", "request1"]),
        (16, 0, ["control", "cursor"]),
        (18, 0, ["event", "status"]),
        (19, 0, ["rx", "tx", "event"]),
        (20, 0, ["data0", "data1", "control"]),
        (23, 0, ["request", "event"]),
        (25, 0, ["control", "event", "tx", "rx"]),
        (26, 0, ["high-priority", "request0"]),
        (999, 0, ["queue 0", "queue 1"]),
    ],
)
def test_roles(device_id: int, features: int, roles: list[str]) -> None:
    count = len(roles)
    assert [queue_role(device_id, index, count, features) for index in range(count)] == roles


@pytest.mark.parametrize(
    ("device_id", "roles"),
    [
        (1, ["rx0", "tx0", "queue 2", "tx1", "queue 4"]),
        (2, ["requests", "requests1"]),
        (20, ["queue 0", "queue 1"]),
        (8, ["control", "event", "request0"]),
    ],
)
def test_without_the_count_the_last_queue_cannot_be_told(device_id: int, roles: list[str]) -> None:
    assert [queue_role(device_id, index, None) for index in range(len(roles))] == roles


def test_a_queue_behind_the_known_ones_is_a_number() -> None:
    assert queue_role(4, 3, 4) == "queue 3"
