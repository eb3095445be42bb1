"""A core at other addresses is told as before, addresses apart: nothing hangs on randomisation."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import zstandard

import vringcore
from tests.lab.cases import DUMPS
from tests.scan.moved import Movable
from vringcore.model.values import encode

FURTHER = -7_919_000 * 4096
"""Bytes: some tens of gigabytes, as one start of a process is from the next."""

EVERY = [
    pytest.param(path, id=str(path.parent.relative_to(DUMPS)))
    for path in sorted(DUMPS.glob("*/*/core.zst"))
    if path.parent.name != "no-guest-ram"  # RAM that no core has does not move, pointers to it do
]


def without_arguments(value: Any) -> Any:
    """An argument in a register of long ago may be half an address: nobody knows what it was."""
    if isinstance(value, dict):
        return {
            k: without_arguments(v) for k, v in value.items() if k not in ("arguments", "locals")
        }
    return [without_arguments(each) for each in value] if isinstance(value, list) else value


def told(path: Path) -> tuple[str, str]:
    """Everything, as JSON, and the verdict's signature."""
    with vringcore.open_core(path, sysroot=os.devnull) as core:
        report = without_arguments(json.loads(encode(core.report())))
        found = core.why()
    assert isinstance(found.signature, str)
    return json.dumps([report, without_arguments(json.loads(encode(found)))]), found.signature


@pytest.mark.parametrize("path", EVERY)
def test_a_core_at_other_addresses_is_told_as_before(path: Path, tmp_path: Path) -> None:
    data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    movable = Movable(data)
    assert len(movable.words) > 1000
    core = tmp_path / "core"
    core.write_bytes(data)
    before = told(core)
    core.write_bytes(movable.moved(FURTHER))
    after = told(core)
    assert after[1] == before[1]

    def back(number: re.Match[str]) -> str:
        text = number[0]
        was = int(text, 0) - FURTHER
        if not movable.is_address(was):
            return text
        return hex(was) if text.startswith("0x") else str(was)

    assert re.sub(r"0x[0-9a-f]+|\b[1-9]\d{11,}", back, after[0]) == before[0] != after[0]
