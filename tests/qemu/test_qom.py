"""QOM of real cores against gdb and what QEMU said of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vringcore.errors import CorruptDataError, MemoryFault

if TYPE_CHECKING:
    from tests.lab.cases import CoreCase
    from vringcore.qemu.process import Process

pytestmark = pytest.mark.lab


def test_types_and_paths_equal_gdbs(lab_core: CoreCase, process: Process) -> None:
    objects = process.objects
    for device in lab_core.gdb["devices"]:
        address = device["address"]
        assert list(objects.ancestry(address)) == device["qom_types"]
        assert objects.type_name(address) == device["qom_types"][0]
        assert all(objects.is_a(address, name) for name in device["qom_types"])
        assert not objects.is_a(address, "virtio-pci")
        path = device["canonical_path"]
        assert objects.path(address) == objects.climb(address) == path
        assert objects.find(path) == address


def test_the_tree_holds_every_device(lab_core: CoreCase, process: Process) -> None:
    theirs = {device["address"] for device in lab_core.gdb["devices"]}
    assert {int(a) for a in process.objects.instances("virtio-device")} == theirs


def test_every_path_of_the_tree_leads_back(process: Process) -> None:
    objects = process.objects
    tree = dict(objects.walk())
    assert len(tree) > 100
    assert {"/machine", "/objects", "/machine/peripheral"} <= tree.keys()
    for path, address in list(tree.items())[::17]:
        assert objects.climb(address) == path
    realized = [p for p, a in tree.items() if objects.is_a(a, "device")]
    assert realized
    assert all(objects.path(tree[path]) == path for path in realized)


def test_user_objects_equal_what_qemu_said(lab_core: CoreCase, process: Process) -> None:
    said = lab_core.case.qmp_before
    if said is None:
        pytest.skip("QEMU did not say it")
    objects = process.objects
    place = objects.find("/objects")
    assert place is not None
    ours = {name: f"child<{objects.type_name(a)}>" for name, a in objects.children(place)}
    assert ours == {name: type_ for name, type_ in said["objects"].items() if name != "type"}
    threads = {objects.path(a) for a in objects.instances("iothread", "/objects")}
    assert threads == {f"/objects/{thread['id']}" for thread in said["query-iothreads"]}


def test_what_is_no_object(process: Process) -> None:
    objects = process.objects
    views = process.views
    machine = views.address_of("current_machine")  # a pointer to an object is none itself
    assert not objects.is_object(machine)
    assert objects.type_name(machine) is None
    assert objects.ancestry(views.address_of("address_space_memory")) == ()
    with pytest.raises(MemoryFault):
        objects.is_object(16)
    assert objects.find("/machine/no-such") is None


def test_an_object_outside_the_tree_has_no_path(process: Process) -> None:
    views, objects = process.views, process.objects
    root = views.address_of("internal_root", "qom/object.c", "object_get_internal_root")
    internal = views.pointer(root)
    assert objects.type_name(internal) == "container"
    with pytest.raises(CorruptDataError, match="does not hang in the object tree"):
        objects.path(internal)
