"""Small cores of the lab's cores: every answer again, nothing of the guest, read by others too."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vringcore
from tests.cli.command import vringcore as run_vringcore
from tests.lab.cases import CoreCase, iter_cores
from tests.lab.gdb_run import write_truth
from tests.lab.partial import plain
from tests.lab.reading import find_core
from vringcore.addresses import GuestAddress
from vringcore.errors import DebugInfoMissingError, MemoryFault, NotQemuError
from vringcore.layout.store import LayoutStore
from vringcore.memory.gaps import GapKind
from vringcore.options import Options
from vringcore.slim.slim import slim_core

pytestmark = pytest.mark.lab

CORES = [core for core in iter_cores() if not core.case.scenario.startswith("other-")]
PARAMETERS: list[Any] = CORES or [
    pytest.param(None, marks=pytest.mark.skip("no cores: `python -m tests.lab make 7.2 all`"))
]

MEGABYTE = 1_000_000
OWN = ("path", "size", "kind", "modules")
"""Of ``core`` in a report: what a slim core says of itself, and files found on this machine."""


def core_id(core: CoreCase | None) -> str:
    return core.name if core else "none"


def alone(path: Path, tmp_path: Path) -> vringcore.Core:
    """Open a slim core as on a machine that has neither QEMU, debug information nor cache."""
    return vringcore.open_core(str(path), sysroot=str(tmp_path / "nothing"), store=LayoutStore())


def documents(core: vringcore.Core) -> Iterator[tuple[str, Any]]:
    """Yield everything that the verbs print of a core."""
    report = plain(core.report())
    report["core"] = {k: v for k, v in report["core"].items() if k not in OWN}
    yield "report", report
    for device in core.virtio_devices():
        assert isinstance(device.queues, tuple)
        for queue in device.queues:
            yield (
                f"ring {device.index} {queue.index}",
                plain(core.ring(str(device.index), queue.index)),
            )


@pytest.fixture(scope="module")
def slims(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what makes the slim core of a lab core, each once."""
    directory = tmp_path_factory.mktemp("slim")
    made: dict[str, Path] = {}
    store = LayoutStore()

    def of(core: CoreCase) -> Path:
        if core.name not in made:
            path = directory / core.name.replace("/", "-")
            options = Options(executable=str(core.case.executable))
            slim_core(str(core.path), str(path), options=options, store=store)
            made[core.name] = path
        return made[core.name]

    return of


@pytest.mark.parametrize("core", PARAMETERS, ids=core_id)
def test_every_answer_is_the_same_without_any_other_file(
    core: CoreCase, slims: Any, tmp_path: Path
) -> None:
    with vringcore.open_core(
        str(core.path), executable=str(core.case.executable), store=LayoutStore()
    ) as full:
        expected = dict(documents(full))
    with alone(slims(core), tmp_path) as small:
        assert small.info.kind == "slim"
        for name, document in documents(small):
            assert document == expected.pop(name), name
    assert not expected


@pytest.mark.parametrize("core", PARAMETERS, ids=core_id)
def test_it_is_small(core: CoreCase, slims: Any) -> None:
    devices = len(core.case.manifest["expected"]["devices"])
    limit = 3 * MEGABYTE if devices > 2 else MEGABYTE
    assert slims(core).stat().st_size < limit
    assert core.path.stat().st_size > 100 * limit or core.case.scenario == "no-guest-ram"


@pytest.mark.parametrize("core", PARAMETERS, ids=core_id)
def test_it_is_an_elf_core_to_others(core: CoreCase, slims: Any) -> None:
    path = str(slims(core))
    for command in (["readelf", "-lnW", path], ["eu-readelf", "-ln", path]):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.count("PRSTATUS") == len(vringcore_threads(core))
        assert "rror" not in done.stderr, done.stderr[:500]


def vringcore_threads(core: CoreCase) -> Any:
    with vringcore.open_core(str(core.path), executable=str(core.case.executable)) as full:
        return full.process.core.threads


def test_gdb_reads_every_structure_from_it(slims: Any, tmp_path: Path) -> None:
    for name in ("7.2/stuck-migration/gcore", "10.0/stuck-migration/gcore"):
        core = find_core(name)
        if core is None:
            pytest.skip(f"no core {name}")
        write_truth(core.case.executable, slims(core), tmp_path / "truth.json")
        said = json.loads((tmp_path / "truth.json").read_text())
        for ours, theirs in zip(said["devices"], core.gdb["devices"], strict=True):
            assert ours["fields"] == theirs["fields"]
            for mine, its in zip(ours["queues"], theirs["queues"], strict=True):
                # The oracle may have learned more since the case was made.
                assert {key: mine[key] for key in its} == its
        assert said["requests"] == core.gdb["requests"]


def test_gdb_walks_the_stacks_from_it(slims: Any) -> None:
    core = the("7.2/stuck-migration/gcore")
    command = ["gdb", "-batch", "-nx", "-ex", "thread apply all bt 12", str(core.case.executable)]
    full, small = (
        subprocess.run([*command, str(path)], capture_output=True, text=True, check=True).stdout
        for path in (core.path, slims(core))
    )
    frames = [line for line in full.splitlines() if line.startswith("#")]
    assert len(frames) > 50
    assert [line for line in small.splitlines() if line.startswith("#")] == frames


def the(name: str) -> CoreCase:
    core = find_core(name)
    if core is None:
        pytest.skip(f"no core {name}: see docs/lab.md")
    return core


def test_the_same_core_gives_the_same_bytes(slims: Any, tmp_path: Path) -> None:
    core = the("7.2/stuck/gcore")
    again = tmp_path / "again"
    slim_core(
        str(core.path),
        str(again),
        options=Options(executable=str(core.case.executable)),
        store=LayoutStore(),
    )
    assert again.read_bytes() == slims(core).read_bytes()


def test_a_slim_core_of_a_slim_core_gives_the_same_answers(slims: Any, tmp_path: Path) -> None:
    core = the("7.2/stuck-migration/gcore")
    again = tmp_path / "again"
    nowhere = str(tmp_path / "nothing")
    slim_core(str(slims(core)), str(again), options=Options(sysroot=nowhere), store=LayoutStore())
    with alone(slims(core), tmp_path) as first, alone(again, tmp_path) as second:
        assert dict(documents(second)) == dict(documents(first))
        assert second.process.core.slim == first.process.core.slim


def test_it_packs_itself(slims: Any, tmp_path: Path) -> None:
    core = the("7.2/stuck/gcore")
    packed = tmp_path / "small.zst"
    slim_core(str(core.path), str(packed), options=Options(executable=str(core.case.executable)))
    assert packed.stat().st_size < slims(core).stat().st_size / 2
    with alone(packed, tmp_path) as small, alone(slims(core), tmp_path) as other:
        assert dict(documents(small)) == dict(documents(other))


def test_what_was_left_out_says_so_and_can_be_asked_for(slims: Any, tmp_path: Path) -> None:
    core = the("7.2/stuck/gcore")
    executable = str(core.case.executable)
    with vringcore.open_core(str(core.path), executable=executable) as full:
        value = full.eval("&savevm_state")
        address = int(value)
        block = full.process.guest_memory.ranges()[0]
        said = full.print_expression("savevm_state")
    with alone(slims(core), tmp_path) as small:
        with pytest.raises(MemoryFault, match="slim core left out") as caught:
            small.process.views.space.read(value_address(address), 8)
        assert caught.value.gap.kind is GapKind.OMITTED
        with pytest.raises(MemoryFault):
            small.process.guest_memory.read(block.address, 4096)  # type: ignore[arg-type]
    more = tmp_path / "more"
    slim_core(
        str(core.path),
        str(more),
        options=Options(executable=executable),
        wanted=["savevm_state", f"{address:#x}+16"],
    )
    with alone(more, tmp_path) as small:
        assert small.print_expression("savevm_state") == said


def value_address(address: int) -> Any:
    from vringcore.addresses import HostAddress

    return HostAddress(address)


CANARIES = ("CANARYSECRET0001", "CANARYENVIRONMENT0002", "CANARYGUESTRAM03")


@pytest.mark.parametrize("core", PARAMETERS, ids=core_id)
def test_no_secret_and_no_guest_data_is_in_it(core: CoreCase, slims: Any) -> None:
    data = slims(core).read_bytes()
    for canary in CANARIES:
        assert canary.encode() not in data
        assert canary.encode("utf-16-le") not in data


def test_the_canaries_are_in_the_full_cores() -> None:
    core = the("7.2/stuck/gcore")
    found = set()
    previous = b""
    with core.path.open("rb") as file:
        while block := file.read(1 << 24):
            data = previous + block
            found |= {canary for canary in CANARIES if canary.encode() in data}
            previous = data[-32:]
    assert found == set(CANARIES)


def test_request_headers_are_in_it_as_the_guest_wrote_them(slims: Any, tmp_path: Path) -> None:
    core = the("7.2/stuck/gcore")
    seen = 0
    with core.open() as full, alone(slims(core), tmp_path) as small:
        queues: Any = small.virtio_devices()[0].queues
        for request in (request for queue in queues for request in queue.in_flight):
            header = next(d for d in request.descriptors if "indirect" not in d.flag_names)
            place = GuestAddress(int(header.address))
            data = small.process.guest_memory.read(place, 16)
            assert data == full.process.guest_memory.read(place, 16)
            assert int.from_bytes(data[8:], "little") == request.request.sector
            seen += 1
    assert seen == 8


def test_redacted_stacks_keep_every_answer(slims: Any, tmp_path: Path) -> None:
    core = the("7.2/stuck-migration/gcore")
    path = tmp_path / "redacted"
    options = Options(executable=str(core.case.executable))
    slim_core(str(core.path), str(path), options=options, redact_stacks=True)
    assert path.stat().st_size <= slims(core).stat().st_size + 200
    assert path.read_bytes().count((0x0DEFACED0DEFACED).to_bytes(8, "little")) > 100
    with alone(path, tmp_path) as small, alone(slims(core), tmp_path) as other:
        assert dict(documents(small)) == dict(documents(other))


def test_it_is_made_in_two_seconds(tmp_path: Path) -> None:
    core = the("7.2/stuck-migration/gcore")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.write(b"")
    subprocess.run(["cp", "--sparse=always", str(core.path), str(large)], check=True)
    os.truncate(large, 2 << 30)
    times = []
    for turn in range(2):
        began = time.monotonic()
        run_vringcore(
            "slim", str(large), "-o", str(tmp_path / f"s{turn}"), "-e", str(core.case.executable)
        )
        times.append(time.monotonic() - began)
    assert min(times) < 2


def test_a_program_without_virtio_devices_gives_no_slim_core(tmp_path: Path) -> None:
    others = [core for core in iter_cores() if core.case.scenario == "other-qemu-nbd"]
    if not others:
        pytest.skip("no such core")
    out = tmp_path / "out"
    with pytest.raises(NotQemuError):
        slim_core(
            str(others[0].path),
            str(out),
            options=Options(executable=str(others[0].case.executable)),
        )
    assert list(tmp_path.iterdir()) == []


def test_without_debug_information_it_says_what_is_missing(tmp_path: Path) -> None:
    core = the("7.2/stuck/gcore")
    out = tmp_path / "out"
    with pytest.raises(DebugInfoMissingError):
        slim_core(
            str(core.path), str(out), options=Options(sysroot=str(tmp_path)), store=LayoutStore()
        )
    assert not out.exists()
