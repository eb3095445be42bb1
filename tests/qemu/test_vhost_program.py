"""vhost-net, a vhost-user network that is gone, and shadow virtqueues: structures made for it.

There is neither vhost in the kernel nor a vDPA device in the lab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.expr.program import HAVE_TOOLS, NoNames
from tests.qemu.damaged import patched
from tests.synth.cross import MACHINES, Machine
from tests.synth.vhost_program import build, build_for
from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.provider import DebugInfo
from vringcore.elfcore.core import open_elf_core
from vringcore.elfcore.executable import read_executable
from vringcore.elfcore.linkmap import add_modules
from vringcore.layout.store import LayoutStore
from vringcore.memory.files import FileSource
from vringcore.model.values import Absent, Flags
from vringcore.model.vhost import Chardev, ShadowQueue, Vhost
from vringcore.qemu import vhost_models, vhost_net, vhost_structs
from vringcore.qemu.devices import RawDevice
from vringcore.qemu.discovery import Found
from vringcore.qemu.qom import ObjectModel
from vringcore.qemu.shadow import shadow_requests
from vringcore.qemu.vhost import Vhost as Owners
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vringcore.model.report import Limitation

pytestmark = pytest.mark.skipif(not HAVE_TOOLS, reason="gcc and gdb are needed")

CONTROL = 4
"""The control queue of a device with two queue pairs."""


@pytest.fixture(scope="module", params=[None, *MACHINES], ids=lambda m: m.name if m else "here")
def views(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Views]:
    directory: Path = tmp_path_factory.mktemp("vhost")
    machine: Machine | None = request.param
    if machine is not None and machine.missing:
        pytest.skip(machine.missing)
    executable, core = build(directory) if machine is None else build_for(machine, directory)
    file = FileSource.open(str(executable))
    with open_elf_core(str(core)) as opened:
        if machine is not None:
            add_modules(opened, read_executable(file), lambda _path: None)
        layouts = LayoutStore().layouts(
            "",
            [DebugInfo(find_files("", str(executable)))],
            pointer_size=8,
            big_endian=opened.header.big_endian,
        )
        yield Views(opened.with_files({str(executable): file}), layouts, 0, NoNames())
    file.close()


def written(views: Views, number: int, size: int) -> bytes:
    """Return a number's bytes as the machine has them."""
    return number.to_bytes(size, "big" if views.layouts.big_endian else "little")


def device(views: Views, name: str) -> RawDevice:
    return RawDevice(views, ObjectModel(views), Found(views.address_of(name), ("made",)))


def models(views: Views, name: str) -> tuple[Vhost, ...]:
    limits: list[Limitation] = []
    own = device(views, name)
    found = vhost_models.vhost_models(
        views, ObjectModel(views), own, Owners(views).runs(own), limits
    )
    assert not limits
    return found


def test_vhost_in_the_kernel_runs_all_but_the_control_queue(views: Views) -> None:
    owners, own = Owners(views), device(views, "tap_net")
    assert owners.owner(own) == "vhost-kernel"
    assert [owners.queue_owner(own, queue) for queue in range(CONTROL + 1)] == [
        *(["vhost-kernel"] * CONTROL),
        "qemu",
    ]
    first, second = models(views, "tap_net")
    assert (first.backend, first.netdev, first.vq_index, first.nvqs) == ("kernel", "hostnet0", 0, 2)
    assert (second.vq_index, second.started, second.chardev) == (2, True, None)
    assert isinstance(second.features, Flags)
    assert second.features.names == ("VIRTIO_F_VERSION_1",)


def test_a_vhost_user_network_that_is_gone(views: Views) -> None:
    owners, own = Owners(views), device(views, "user_net")
    assert owners.owner(own) == "vhost-user-disconnected"
    assert [owners.queue_owner(own, queue) for queue in (0, 3, CONTROL)] == [
        "vhost-user-disconnected",
        "vhost-user-disconnected",
        "qemu",
    ]
    first, _second = models(views, "user_net")
    assert (first.started, first.netdev) == (False, "hostnet1")
    assert isinstance(first.chardev, Chardev)
    assert (first.chardev.label, first.chardev.connected) == ("char1", False)
    assert first.chardev.file == "disconnected:unix:/run/net"
    assert (first.chardev.state, first.chardev.handler) == (None, None)


def test_with_an_open_chardev_and_vhost_stopped_qemu_has_the_rings(views: Views) -> None:
    at = views.address_of("user_chardev") + views.offset("struct Chardev", "be_open")
    connected = patched(views, {at: written(views, 1, 4)})
    assert Owners(connected).owner(device(connected, "user_net")) == "qemu"


def test_with_shadow_virtqueues_qemu_moves_the_rings(views: Views) -> None:
    owners, own = Owners(views), device(views, "vdpa_net")
    assert owners.owner(own) == "shadow-vq"
    assert [owners.queue_owner(own, queue) for queue in (0, 1, 2)] == [
        "shadow-vq",
        "shadow-vq",
        "qemu",
    ]
    (vhost,) = models(views, "vdpa_net")
    assert (vhost.backend, vhost.netdev) == ("vdpa", "hostnet2")
    place = views.address_of("shadows")
    size = views.binding(vhost_structs.ShadowVirtqueue).type.size
    assert vhost.shadow == (
        ShadowQueue(0, place, 4, 12, 10, 1, (7, 200)),
        ShadowQueue(1, place + size, 4, 0, 0, 4, ()),
    )
    (run, *_) = owners.runs(own)
    dev = views.at(vhost_structs.VHostDev, run.address)
    assert [(each.head, each.source) for each in shadow_requests(views, dev, 0)] == [
        (7, "element"),
        (200, "element"),
    ]
    assert shadow_requests(views, dev, 1) == []


def test_without_shadow_virtqueues_the_device_has_the_rings(views: Views) -> None:
    at = views.address_of("vdpa") + views.offset("struct vhost_vdpa", "shadow_vqs_enabled")
    plain = patched(views, {at: b"\x00"})
    assert Owners(plain).owner(device(plain, "vdpa_net")) == "vdpa"
    (vhost,) = models(plain, "vdpa_net")
    assert vhost.shadow == ()


# Damage


@pytest.mark.parametrize(
    ("c_type", "member", "data"),
    [
        ("struct VhostShadowVirtqueue", "vring.num", b"\xff\xff\xff\x7f"),
        ("struct VhostShadowVirtqueue", "desc_state", b"\x10" + bytes(7)),
    ],
)
def test_a_damaged_shadow_virtqueue_loses_its_heads_alone(
    views: Views, c_type: str, member: str, data: bytes
) -> None:
    at = views.address_of("shadows") + views.offset(c_type, member)
    (vhost,) = models(patched(views, {at: data}), "vdpa_net")
    assert isinstance(vhost.shadow, tuple)
    first, second = vhost.shadow
    assert isinstance(first.heads, Absent)
    assert second.heads == ()


def test_an_impossible_number_of_shadow_virtqueues_is_refused(views: Views) -> None:
    array = views.pointer(
        views.address_of("vdpa") + views.offset("struct vhost_vdpa", "shadow_vqs")
    )
    at = array + views.offset("struct _GPtrArray", "len")
    (vhost,) = models(patched(views, {at: b"\xff\xff\xff\xff"}), "vdpa_net")
    assert isinstance(vhost.shadow, Absent)
    assert "4294967295" in vhost.shadow.hint


def test_an_impossible_number_of_peers_leaves_the_owner_unknown(views: Views) -> None:
    at = views.address_of("user_net") + views.offset("struct VirtIONet", "nic_conf.peers.queues")
    damaged = patched(views, {at: written(views, 0x7FFFFFFF, 4)})
    assert Owners(damaged).owner(device(damaged, "user_net")) == "unknown"
    assert vhost_net.MAX_PEERS < 0x7FFFFFFF


def test_an_impossible_number_of_queues_is_refused(views: Views) -> None:
    (run, *_) = Owners(views).runs(device(views, "tap_net"))
    at = run.address + views.offset("struct vhost_dev", "nvqs")
    first, _second = models(patched(views, {at: b"\xff\xff\xff\xff"}), "tap_net")
    assert isinstance(first.queues, Absent)


def test_a_list_of_vhost_devices_in_a_circle_leaves_owners_unknown(views: Views) -> None:
    head = views.address_of("vhost_devices", "vhost.c")
    first = views.pointer(head)
    at = first + views.offset("struct vhost_dev", "entry.le_next")
    damaged = patched(views, {at: written(views, first, 8)})
    owners = Owners(damaged)
    assert owners.error is not None
    assert owners.owner(device(damaged, "tap_net")) == "unknown"
    started = damaged.offset("struct VirtIODevice", "vhost_started")
    place = damaged.address_of("tap_net") + started
    damaged = patched(damaged, {place: b"\x01"})
    owners, own = Owners(damaged), device(damaged, "tap_net")
    run = owners.run_of(own, 0)
    assert run is not None
    assert run.owner == "unknown"
