"""Two cores of one VM: what moved, and what did not.

The second core is the first with its counters moved on as the guest and QEMU do it, so that the
truth is what the test did.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jsonschema
import pytest

import vringcore
from tests.cli.command import ROOT
from tests.cli.command import vringcore as command
from tests.scan import cores
from tests.scan.fleet import template
from vringcore.errors import UsageError
from vringcore.model.compare import CompareDocument
from vringcore.model.values import encode
from vringcore.ring_math import advance
from vringcore.scan.compare import compare


def compared(first: Path, second: Path) -> CompareDocument:
    with (
        vringcore.open_core(str(first), sysroot=os.devnull) as one,
        vringcore.open_core(str(second), sysroot=os.devnull) as two,
    ):
        document = compare(one, two)
    schema = json.loads((ROOT / "schemas" / "compare-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(encode(document)))
    return document


def moved(name: str, path: Path, rounds: int) -> Path:
    """Write a core whose rings all went on by whole rounds: the same requests seem in flight."""
    source = template(cores.dump(name))
    data = bytearray(source.data)
    for offset, size in source.counters:
        old = int.from_bytes(data[offset : offset + 2], "little")
        data[offset : offset + 2] = advance(old, rounds * size).to_bytes(2, "little")
    path.write_bytes(data)
    return path


def test_nothing_moved_and_requests_last() -> None:
    document = compared(cores.dump("10.0/stuck"), cores.dump("10.0/stuck"))
    assert document.state == "stuck"
    assert [(q.state, len(q.lasting), q.gone, q.new) for q in document.queues] == [
        ("stuck", 2, 0, 0)
    ] * 4
    assert {move.steps for queue in document.queues for move in queue.indices} == {0}
    assert {thread.state for thread in document.threads} == {"same"}


@pytest.mark.parametrize("rounds", [1, 3, 255])
def test_others_complete_while_some_last(tmp_path: Path, rounds: int) -> None:
    """Across the wrap at 2^16, too: a ring of 256 that went on by 255 rounds."""
    document = compared(cores.dump("10.0/stuck"), moved("10.0/stuck", tmp_path / "two", rounds))
    assert document.state == "slow"
    steps = {move.steps for queue in document.queues for move in queue.indices}
    with vringcore.open_core(str(cores.dump("10.0/stuck")), sysroot=os.devnull) as core:
        sizes = {queue.size for device in core.virtio_devices() for queue in device.queues or ()}
    assert steps == {advance(0, rounds * int(size)) for size in sizes if isinstance(size, int)}


def test_an_idle_vm() -> None:
    assert compared(cores.dump("10.0/idle"), cores.dump("10.0/idle")).state == "idle"


def test_cores_of_two_vms_are_refused() -> None:
    with pytest.raises(UsageError, match="not of one process"):
        compared(cores.dump("10.0/stuck"), cores.dump("7.2/stuck"))
    with pytest.raises(UsageError, match="not of one process"):
        compared(cores.dump("10.0/stuck"), cores.dump("10.0/idle"))


def test_the_verb(tmp_path: Path) -> None:
    path = cores.dump("10.0/stuck")
    later = shutil.copy(path, tmp_path / "later.zst")
    run = command("compare", str(path), str(later), "--sysroot", "/nowhere", "--no-cache")
    assert (run.returncode, run.stderr) == (5, "")
    assert "Stuck: no index moved on 4 queues of disk0, 8 requests in flight in both" in run.stdout


def test_one_core_given_twice_is_no_comparison(tmp_path: Path) -> None:
    path = str(cores.dump("10.0/stuck"))
    (tmp_path / "link").symlink_to(path)
    for second in (path, str(tmp_path / "link")):
        run = command("compare", path, second)
        assert (run.returncode, run.stdout) == (2, "")
        assert "one core is given twice" in run.stderr
