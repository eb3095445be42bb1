"""Block back-ends and nodes, against gdb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.qemu.damaged import patched
from tests.qemu.support import Image, views_of
from vringcore.model.devices import Backend
from vringcore.qemu.block import BlockLayer
from vringcore.qemu.block_structs import BdrvChild, BlockBackend, BlockDriverState
from vringcore.qemu.filename import file_name, redact_name

if TYPE_CHECKING:
    from tests.lab.cases import CoreCase
    from vringcore.qemu.block import Node
    from vringcore.qemu.process import Process

IO_STATUS = {0: "ok", 1: "failed", 2: "nospace"}
"""qapi/block-core.json, BlockDeviceIoStatus."""


@pytest.fixture
def layer(opened: Process) -> BlockLayer:
    return BlockLayer(opened.views)


def root_of(layer: BlockLayer, backend: Backend) -> Node | None:
    return next(iter(layer.graph_of(backend.address)), None)


def test_back_ends_equal_gdbs(core: CoreCase, layer: BlockLayer) -> None:
    truth = core.gdb["block"]["backends"]
    assert [blk.address_ for blk in layer.backends()] == [each["address"] for each in truth]
    for expected in truth:
        backend = layer.backend_of(expected["address"])
        assert backend.name == expected["name"]
        assert backend.node == expected["root"]
        assert backend.in_flight == expected["in_flight"]
        assert backend.quiesce_counter == expected["quiesce_counter"]
        assert backend.io_status in (None, IO_STATUS[expected["iostatus"]])
        if expected["device"]:
            attached = layer.attached_to(expected["device"])
            assert attached is not None
            assert attached.address_ == expected["address"]
    assert layer.attached_to(1) is None
    assert layer.limits == []


def test_nodes_equal_gdbs(core: CoreCase, layer: BlockLayer) -> None:
    def as_gdb(node: Node) -> dict[str, Any]:
        return {
            "address": node.address,
            "node_name": node.name,
            "driver": node.driver,
            "in_flight": node.view.in_flight,
            "quiesce_counter": node.view.quiesce_counter,
            "filename": node.view.filename,
            "children": [child.name for child in layer.children(node)],
        }

    expected = [
        {**{k: v for k, v in node.items() if k != "engines"},
         "children": [child["node"] for child in node["children"]]}
        for node in core.gdb["block"]["nodes"]
    ]  # fmt: skip
    assert [as_gdb(node) for node in layer.nodes()] == expected


def test_the_graph_is_every_node_below_and_depths_are_edges(
    core: CoreCase, layer: BlockLayer
) -> None:
    children = {
        node["node_name"]: [child["node"] for child in node["children"]]
        for node in core.gdb["block"]["nodes"]
    }
    for expected in core.gdb["block"]["backends"]:
        level = [expected["root"]] if expected["root"] else []
        found = {node.name: node.depth for node in layer.graph_of(expected["address"])}
        depth = 0
        while level:
            assert {name for name, at in found.items() if at == depth} == set(level)
            level = [child for name in level for child in children[name]]
            depth += 1
        assert len(found) == sum(1 for at in found.values() if at < depth)


@pytest.mark.lab
def test_file_is_what_the_node_names_or_else_what_the_nbd_client_connects_to(
    lab_core: CoreCase, process: Process
) -> None:
    layer = BlockLayer(process.views)
    named = {node["address"]: node for node in lab_core.gdb["block"]["nodes"]}
    for blk in layer.backends():
        backend = layer.backend_of(blk.address_)
        root = root_of(layer, backend)
        if root is None:
            continue
        expected = named[root.address]["filename"]
        assert backend.file == redact_name(expected)
        if root.driver == "nbd":
            offset = process.views.offset
            blank = {
                root.address + offset(BlockDriverState.c_type, member): b"\0"
                for member in ("filename", "exact_filename")
            }
            views = patched(process.views, blank)
            node = views.at(BlockDriverState, root.address)
            assert file_name(views, node, root.driver) == expected
            assert BlockLayer(views).backend_of(blk.address_).file == expected


def test_a_list_that_runs_into_itself_is_cut_and_told(opened: Process) -> None:
    whole = BlockLayer(opened.views).backends()
    if not whole:
        pytest.skip("no back-end in this core")
    link = whole[-1].address_ + opened.views.offset(BlockBackend.c_type, "link")
    layer = BlockLayer(patched(opened.views, {link: whole[0].address_.to_bytes(8, "little")}))
    assert [blk.address_ for blk in layer.backends()] == [blk.address_ for blk in whole]
    assert "runs into itself" in layer.limits[0].why
    again, told = layer.noting(layer.backends)
    assert [blk.address_ for blk in again] == [blk.address_ for blk in whole]
    assert told == layer.limits


def test_a_graph_with_a_cycle_ends(opened: Process) -> None:
    layer = BlockLayer(opened.views)
    for blk in layer.backends():
        graph = layer.graph_of(blk.address_)
        with_child = [node for node in graph if list(layer.children(node))]
        if not with_child:
            continue
        child = opened.views.pointer(with_child[-1].view.children)
        at = child + opened.views.offset(BdrvChild.c_type, "bs")
        looped = BlockLayer(patched(opened.views, {at: graph[0].address.to_bytes(8, "little")}))
        names = [node.name for node in looped.graph_of(blk.address_)]
        assert len(names) == len(set(names))


def test_a_build_of_which_nothing_is_known() -> None:
    layer = BlockLayer(views_of(Image({})))
    assert layer.backends() == []
    assert layer.nodes() == []
    assert [limit.what for limit in layer.limits] == [
        "the list of block back-ends",
        "the list of block nodes",
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/images/disk.qcow2", "/images/disk.qcow2"),
        ("nbd+unix://?socket=/run/nbd", "nbd+unix://?socket=/run/nbd"),
        ("https://me:CANARY@host/disk.iso", "https://me:<redacted>@host/disk.iso"),
        ("iscsi://me%CANARY@host/iqn.x/1", "iscsi://me%<redacted>@host/iqn.x/1"),
        ("rbd:pool/image:id=me:key=CANARY==", "rbd:pool/image:id=me:key=<redacted>"),
        (
            'json:{"driver":"https","url":"https://host/x","cookie":"CANARY"}',
            'json:{"driver":"https","url":"https://host/x","cookie":"<redacted>"}',
        ),
        ('json:{"driver":"https","cookie":"CANA', "json:<redacted>"),
    ],
)
def test_a_file_name_keeps_no_secret(name: str, shown: str) -> None:
    assert redact_name(name) == shown
