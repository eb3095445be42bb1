"""Each core is opened once for all tests of the QEMU layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cores import cores, lab_cores
from tests.qemu.support import is_whole_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.cases import CoreCase
    from vringcore.qemu.process import Process


@pytest.fixture(scope="session", params=cores(is_whole_process))
def core(request: pytest.FixtureRequest) -> CoreCase:
    """Give a core: a dump, or one that the lab has made."""
    found: CoreCase = request.param
    return found


@pytest.fixture(scope="session")
def opened(core: CoreCase) -> Iterator[Process]:
    """Give the process of a core."""
    process = core.open_process()
    yield process
    process.close()


@pytest.fixture(scope="session", params=lab_cores(is_whole_process))
def lab_core(request: pytest.FixtureRequest) -> CoreCase:
    """Give a core that the lab has made, for questions that no verb asks."""
    found: CoreCase = request.param
    return found


@pytest.fixture(scope="session")
def process(lab_core: CoreCase) -> Iterator[Process]:
    """Give the process of a lab core."""
    process = lab_core.open_process()
    yield process
    process.close()
