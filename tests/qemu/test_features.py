"""Feature words: of 64 bits, and since QEMU 10.2 of 128."""

from __future__ import annotations

import pytest

from tests.view.memory import Memory, views_of, word
from vringcore.layout.types import Array, Base, Member, Pointer, Record, Void
from vringcore.model.values import Absent
from vringcore.qemu.devices import RawDevice
from vringcore.qemu.discovery import Found
from vringcore.qemu.qom import ObjectModel
from vringcore.virtio.features import feature_names

U16 = Base("unsigned short", 2, "unsigned")
U64 = Base("unsigned long", 8, "unsigned")

DEVICE = 0x1000
NO_CLASS = 0x2000
NET = 1

TUNNEL_GSO, PACKED, IN_ORDER, RING_RESET = 65, 34, 35, 40
WORDS = (1 << PACKED | 1 << IN_ORDER | 1 << RING_RESET, 1 << TUNNEL_GSO - 64)


def word_or_union(name: str, offset: int, *, wide: bool) -> Member:
    """Return a feature word, or the unnamed union that shares it with ``X_ex[2]``."""
    if not wide:
        return Member(name, U64, offset)
    members = (Member(name, U64, 0), Member(f"{name}_ex", Array(U64, 2), 0))
    return Member(None, Record("union", None, 16, members), offset)


def device(*, wide: bool) -> RawDevice:
    """Return a network device, of a build that keeps 128 bits or one that keeps 64."""
    pointer = Pointer(Void())
    definitions = (
        Record("struct", "Object", 8, (Member("class", pointer, 0),)),
        Record("struct", "ObjectClass", 8, (Member("type", pointer, 0),)),
        Record("struct", "TypeImpl", 8, (Member("class", pointer, 0),)),
        Record(
            "struct",
            "VirtIODevice",
            64,
            (
                word_or_union("guest_features", 8, wide=wide),
                word_or_union("host_features", 24, wide=wide),
                Member("device_id", U16, 40),
                Member("device_endian", U16, 42),
            ),
        ),
    )
    memory = Memory()
    memory.put(NO_CLASS, word(NO_CLASS + 8) + bytes(8))  # its TypeImpl has another class: none
    memory.put(
        DEVICE, word(NO_CLASS) + b"".join(map(word, WORDS)) * 2 + (NET).to_bytes(2, "little")
    )
    memory.put(DEVICE + 42, bytes(22))
    views = views_of(memory, definitions)
    return RawDevice(views, ObjectModel(views), Found(DEVICE, ()))


@pytest.mark.parametrize("side", ["guest", "host"])
def test_features_above_bit_63_are_named(side: str) -> None:
    raw = device(wide=True)
    names = feature_names(raw.device_id, raw.features(side))
    assert names == (
        "VIRTIO_F_RING_PACKED",
        "VIRTIO_F_IN_ORDER",
        "VIRTIO_F_RING_RESET",
        "VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO",
    )


def test_a_build_with_64_bits_has_no_others() -> None:
    assert device(wide=False).features("guest") == WORDS[0]


def test_what_the_features_say_of_rings() -> None:
    rules = device(wide=True).ring_rules
    assert not isinstance(rules, Absent)
    assert (rules.packed, rules.in_order, rules.event_idx, rules.big_endian) == (
        True,
        True,
        False,
        False,
    )
