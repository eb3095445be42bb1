"""Every declared view against the debug information of every QEMU that the lab has built.

A member that a build does not have has to be declared so, or belong to a structure that QEMU keeps
under another name there; nothing else may be missing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import vringcore.qemu
from tests.lab.paths import lab_programs
from vringcore.debuginfo.find import FoundFiles
from vringcore.debuginfo.provider import DebugInfo
from vringcore.errors import LayoutMissingError
from vringcore.layout.bundle import Bundle
from vringcore.layout.provider import Layouts
from vringcore.view.bind import BoundType
from vringcore.view.declare import View

PROGRAMS = lab_programs("qemu-system-x86_64")
BUILDS = [path for path in PROGRAMS if not path.parent.name.endswith("-stock")]

GUESTS = "vringcore.qemu.driver_structs"
"""Structures of the guest's kernel, which no QEMU has."""

ELSEWHERE = {
    # The name ThreadPool was given to another structure.
    "struct ThreadPool": {"head", "cur_threads", "idle_threads"},
    # Read only where a back-end holds operations back, which came later.
    "struct VirtIOCryptoReq": {"op_info", "op_info.op_code", "op_info.session_id"},
    # Moved into VHostUserBase.
    "struct VHostUserGPIO": {"dev"},
    "struct VHostUserI2C": {"dev"},
    "struct VHostUserRNG": {"dev"},
}
"""Members that a build may lack although its views ask for them, by C type."""

NOT_IN_ALL = {
    *("struct ThreadPoolAio", "struct ThreadPoolElement", "struct ThreadPoolElementAio"),
    *("struct LuringState", "struct LuringAIOCB", "typedef LuringRequest"),
    *("struct VirtIOBlockDataPlane", "struct VHostUserBase", "struct VHostUserGPIO"),
    *("struct VHostUserI2C", "struct VHostUserRNG", "struct VhostVdpaDevice"),
    *("struct VhostVDPAState", "struct vhost_vdpa", "struct VhostShadowVirtqueue"),
    *("struct SVQDescState", "struct VirtIOSound", "struct VirtIOSoundPCM"),
    *("struct VirtIOSoundPCMBuffer", "struct VirtIOSoundPCMStream"),
    *("struct virtio_snd_ctrl_command", "struct NetVhostUserState"),
    *("struct V9fsPDU", "struct V9fsVirtioState"),
}
"""Structures that came, went or are left out of a build that is configured so."""


def views() -> Iterator[type[View]]:
    for module in pkgutil.iter_modules(vringcore.qemu.__path__, "vringcore.qemu."):
        importlib.import_module(module.name)
    waiting = list(View.__subclasses__())
    while waiting:
        view = waiting.pop()
        waiting += view.__subclasses__()
        if view.__module__.startswith("vringcore.qemu.") and view.__module__ != GUESTS:
            yield view


@pytest.mark.lab
@pytest.mark.parametrize("program", BUILDS, ids=lambda path: path.parent.name)
def test_every_view_finds_its_members(program: Path) -> None:
    layouts = Layouts(Bundle(build_id=""), [DebugInfo(FoundFiles("", str(program)))])
    bound = 0
    for view in views():
        if not view.c_type:
            continue
        try:
            missing = set(BoundType(view, layouts).missing)
        except LayoutMissingError:
            assert view.c_type in NOT_IN_ALL
            continue
        assert missing in (set(), ELSEWHERE.get(view.c_type)), view.c_type
        bound += 1
    assert bound > 100
