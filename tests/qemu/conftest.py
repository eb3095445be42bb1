"""Each lab core is opened once for all tests of the QEMU layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.qemu.support import CORE_PARAMETERS, core_id, open_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.cases import CoreCase
    from vringcore.qemu.process import Process


@pytest.fixture(scope="session", params=CORE_PARAMETERS, ids=core_id)
def lab_core(request: pytest.FixtureRequest) -> CoreCase:
    """Give a core that the lab has made."""
    core: CoreCase = request.param
    return core


@pytest.fixture(scope="session")
def process(lab_core: CoreCase) -> Iterator[Process]:
    """Give the process of a lab core."""
    process = open_lab(lab_core)
    yield process
    process.close()
