"""``vringcore memory`` on the command line: what it prints, refuses, and leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import vringcore
from tests.lab.cases import CoreCase, iter_cores, iter_dumps
from vringcore.model.memory import MemoryPiece
from vringcore.model.values import Absent, Address
from vringcore.report.memory import hex_lines

SMALL = next(core for core in iter_dumps() if core.name == "dumps/7.2/stuck/gcore")
WHOLE = next((core for core in iter_cores() if core.name == "7.2/paused/gcore"), None)


@cache
def executable() -> tuple[str, ...]:
    return () if WHOLE is None else ("-e", str(WHOLE.case.executable))


def whole() -> CoreCase:
    if WHOLE is None:
        pytest.skip("no cores: `python -m tests.lab make 7.2 paused`")
    return WHOLE


def ask(action: str, core: CoreCase, *words: str) -> Any:
    """Return the JSON of a question that is answered, in full or in part."""
    options = executable() if core is WHOLE else ("--sysroot", "/nowhere")
    run = vringcore("memory", action, str(core.path), *words, "--json", *options)
    assert run.returncode in (0, 4), run.stderr
    return json.loads(run.stdout)


def test_lines_are_those_of_hexdump() -> None:
    data = bytes(range(40)) + b"A" * 64 + b"\0" * 7
    piece = MemoryPiece(Address(0x1000), len(data), data.hex())
    theirs = subprocess.run(
        ["hexdump", "-C"], input=data, capture_output=True, check=True
    ).stdout.decode()
    mine = [line.split(None, 1)[1] for line in hex_lines(piece, whole=True)]
    said = subprocess.run(["hexdump", "-Cv"], input=data, capture_output=True, check=True)
    assert mine == [line.split(None, 1)[1] for line in said.stdout.decode().splitlines()[:-1]]
    assert [line == "*" for line in hex_lines(piece, whole=False)] == [
        line == "*" for line in theirs.splitlines()[:-1]
    ]


def test_a_small_core_has_no_guest_data_and_says_so() -> None:
    run = vringcore("memory", "read", str(SMALL.path), "0x100000", "64", "--sysroot", "/nowhere")
    assert run.returncode == 4
    assert "64 bytes absent, omitted" in run.stdout
    document = ask("search", SMALL, "--string", "CANARYGUESTRAM03")
    assert document["search"]["hits"] == []
    assert document["search"]["missing"] > 200 << 20
    assert document["limits"][-1]["what"] == "not everything was searched"


def test_a_small_core_gives_no_export(tmp_path: Path) -> None:
    out = tmp_path / "vmcore"
    run = vringcore("memory", "export", str(SMALL.path), "-o", str(out), "--sysroot", "/nowhere")
    assert run.returncode == 2
    assert "neither the guest's memory nor its registers" in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("read", "CORE", "nowhere"), "no address such as"),
        (("read", "CORE", "-1"), "ADDRESS"),
        (("read", "CORE", "0x1000", "0"), "LENGTH is 0"),
        (("read", "CORE", "0x1000", "1G"), "--raw writes any amount"),
        (("read", "CORE", "0x1000", "-o", "out"), "-o is where --raw writes"),
        (("read", "CORE", "0xffffffffffffffff", "2"), "leaves the 64-bit address space"),
        (("search", "CORE"), "either as BYTES or with --string"),
        (("search", "CORE", "ab", "--string", "ab"), "either as BYTES or with --string"),
        (("search", "CORE", "abc"), "two hexadecimal digits"),
        (("search", "CORE", "--string", ""), "1 to 65536 bytes"),
        (("export", "CORE"), "-o"),
        (("export", "CORE", "-o", "vmcore.zst"), "without .zst"),
        (("dance", "CORE"), "dance"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], said: str) -> None:
    run = vringcore("memory", *(str(SMALL.path) if word == "CORE" else word for word in words))
    assert run.returncode in (2, 3)
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_queues_know_nothing_of_guest_memory() -> None:
    code = (
        "import sys; from vringcore.cli.main import main;"
        f" main(['queues', {str(SMALL.path)!r}, '--json', '--sysroot', '/nowhere']);"
        " print(sorted(sys.modules), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("guest", "guestmap", "paging", "vcpus", "vmcore", "guest_structs"):
        assert f"'vringcore.qemu.{name}'" not in run.stderr
    assert "'vringcore.model.memory'" not in run.stderr
    assert "'vringcore.qemu.virtqueues'" in run.stderr


@pytest.mark.lab
def test_raw_bytes_are_those_of_the_dump(tmp_path: Path) -> None:
    core, out, vmcore = whole(), tmp_path / "raw", tmp_path / "vmcore"
    for words in (
        ("read", "0x100000", "2M", "--raw", "-o", str(out)),
        ("export", "-o", str(vmcore)),
    ):
        run = vringcore("memory", words[0], str(core.path), *words[1:], *executable())
        assert (run.returncode, run.stderr) == (0, "")
    document = ask("export", core, "-o", str(vmcore))
    first = document["export"]["segments"][0]
    assert first["address"] == "0x0"
    with vmcore.open("rb") as file:
        file.seek(first["offset"] + (1 << 20))
        assert out.read_bytes() == file.read(2 << 20)
    assert [cpu["stale"] for cpu in document["export"]["vcpus"]] == [False] * 4
    assert os.stat(vmcore).st_mode & 0o077 == 0


@pytest.mark.lab
def test_raw_bytes_that_are_not_there_leave_no_file(tmp_path: Path) -> None:
    out = tmp_path / "raw"
    run = vringcore(
        "memory", "read", str(whole().path), "0xfee00000", "--raw", "-o", str(out), *executable()
    )
    assert run.returncode == 3
    assert "not RAM" in run.stderr
    assert not out.exists()


@pytest.mark.lab
def test_a_virtual_address_names_its_tables() -> None:
    read = ask("read", whole(), "0xfffffe0000000000", "16", "--cpu", "0")["read"]
    assert (read["space"], read["cpu"]) == ("guest-virtual", 0)
    assert isinstance(read["pieces"][0]["data"], str)
    absent = ask("read", whole(), "0x10", "16", "--cpu", "0")["read"]["pieces"][0]["data"]
    assert isinstance(absent, dict)
    assert "not present" in absent["hint"]
    assert Absent("unmapped").reason == absent["absent"]
