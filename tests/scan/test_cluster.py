"""The same scan on a cluster: complete also where a worker is killed in the middle."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vringcore
from tests.scan import cores

distributed = pytest.importorskip("distributed", reason="pip install 'vringcore[cluster]'")

if TYPE_CHECKING:
    from vringcore.scan.scanner import Scan

COUNT = 40


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    directory = tmp_path / "cores"
    directory.mkdir()
    for name in ("10.0/stuck", "10.0/idle"):
        data = cores.dump(name).read_bytes()
        for number in range(COUNT // 2):
            (directory / f"{number:02}-{name[5:]}").write_bytes(data)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    killed = []

    def kill(scan: Scan) -> None:
        if scan.done >= 8 and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    with (
        cluster,
        distributed.Client(cluster) as client,
        vringcore.scan(str(directory), client=client, cache=False, progress=kill) as found,
    ):
        rows = list(found)
    assert killed
    assert sorted(Path(row.path).name for row in rows) == sorted(os.listdir(directory))
    assert {row.error for row in rows} == {None}
    assert {row.verdict.state for row in rows if row.verdict} == {"stuck", "healthy"}


@pytest.mark.filterwarnings("ignore")
def test_a_core_that_takes_too_long_in_a_thread() -> None:
    import msgspec

    from vringcore.scan.cluster import scan_in_time
    from vringcore.scan.place import Place, Settings

    path = str(cores.dump("10.0/stuck-migration"))
    settings = msgspec.msgpack.encode(Settings(cache=False))
    place = Place(path, size=Path(path).stat().st_size)
    row = scan_in_time(place, settings, 0.002)
    assert row.error is not None
    assert row.error.code == "timed-out"
    assert scan_in_time(place, settings, 60.0).error is None
