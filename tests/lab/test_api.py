"""The library on real cores: what closing means, and what a look-up may cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import vringcore
from tests.lab.cases import CoreCase, iter_cores
from vringcore.debuginfo import index
from vringcore.debuginfo.index import UnitIndex
from vringcore.errors import NotQemuError, UsageError
from vringcore.layout.store import LayoutStore

pytestmark = pytest.mark.lab

CORES: list[Any] = list(iter_cores()) or [
    pytest.param(None, marks=pytest.mark.skip("no cores: `python -m tests.lab make 7.2 all`"))
]


@pytest.mark.parametrize("case", CORES, ids=lambda case: case.name if case else "none")
def test_no_question_needs_the_index_of_all_names(
    case: CoreCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look-up is led to its file by a hint, or shown to be in vain by the name's bytes."""
    built: list[UnitIndex] = []

    class Counted(UnitIndex):
        def __init__(self, dwarf: Any) -> None:
            built.append(self)
            super().__init__(dwarf)

    monkeypatch.setattr(index, "UnitIndex", Counted)
    try:
        core = vringcore.open_core(
            str(case.path), executable=str(case.case.executable), store=LayoutStore()
        )
    except NotQemuError:
        assert not built
        return
    with core:
        core.report({"devices", "device-fields"})
        core.report({"queues", "queue-fields"})
        core.report({"requests"})
        for device in core.virtio_devices():
            for queue in device.queues or ():
                core.ring(str(device.index), queue.index)
        assert not built
        assert core.process.views.layouts.names("struct")
    assert built, "a list of all names does need it, so this test can fail"


QUESTIONS: dict[str, Callable[[vringcore.Core], object]] = {
    "virtio_devices": lambda core: core.virtio_devices(),
    "find_device": lambda core: core.find_device("0"),
    "report": lambda core: core.report(),
    "ring": lambda core: core.ring("0", 0),
    "print_expression": lambda core: core.print_expression("1"),
    "eval": lambda core: core.eval("1"),
    "info": lambda core: core.info,
    "qemu": lambda core: core.qemu,
    "process": lambda core: core.process,
}


@pytest.mark.parametrize("asked", [False, True])
def test_a_closed_core_refuses_questions_and_keeps_its_answers(asked: bool) -> None:
    cases = [core for core in iter_cores() if core.case.name.endswith("stuck")]
    if not cases:
        pytest.skip("no cores: `python -m tests.lab make 7.2 all`")
    core = vringcore.open_core(str(cases[0].path), executable=str(cases[0].case.executable))
    devices = core.virtio_devices() if asked else ()
    core.close()
    core.close()
    for question in QUESTIONS.values():
        if asked and question is QUESTIONS["virtio_devices"]:
            assert question(core) == devices
            continue
        with pytest.raises(UsageError, match="the core is closed"):
            question(core)
