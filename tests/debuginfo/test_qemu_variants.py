"""The lab's QEMU with its debug information packed, moved and indexed: the answers stay the same.

Each file is made once and kept in the lab, by the build-id of the QEMU that it was made from.
"""

from __future__ import annotations

import json
import lzma
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.debuginfo.line_oracles import code_addresses
from tests.debuginfo.reading import all_keys, layouts_of
from tests.lab.paths import cases_directory, lab_root
from vringcore import open_core
from vringcore.debuginfo.dwarf import Dwarf
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.find import find_alternate_file, find_debug_file
from vringcore.debuginfo.index import UnitIndex
from vringcore.debuginfo.symbols import SymbolTable
from vringcore.debuginfo.toplevel import FUNCTION, VARIABLE
from vringcore.errors import ExecutableMismatchError
from vringcore.layout.provider import Layouts
from vringcore.layout.store import LayoutStore
from vringcore.model.values import encode

QEMU = lab_root() / "qemu" / "7.2" / "qemu-system-x86_64"
CORE = cases_directory() / "7.2" / "stuck" / "core"

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not (QEMU.exists() and CORE.exists()),
        reason="no QEMU or no core: run `python -m tests.lab make 7.2 stuck`",
    ),
]

SAMPLED = {"types": 600, "variables": 300, "functions": 300, "lines": 1000}

PACKED: dict[str, list[str]] = {
    "zlib": ["objcopy", "--compress-debug-sections=zlib", "{from}", "{to}"],
    "zdebug": ["objcopy", "--compress-debug-sections=zlib-gnu", "{from}", "{to}"],
    "zstd": ["objcopy", "--compress-debug-sections=zstd", "{from}", "{to}"],
    "elfcompress": ["eu-elfcompress", "-q", "-t", "zlib", "-o", "{to}", "{from}"],
    "dwz": ["dwz", "-o", "{to}", "{from}"],
    "stripped": ["objcopy", "--strip-all", "--add-gnu-debuglink={dir}/debug", "{from}", "{to}"],
    "debug": ["objcopy", "--only-keep-debug", "{from}", "{to}"],
    "gdb-index": ["sh", "-c", "cp {from} {to} && gdb-add-index {to}"],
    "debug-names": ["sh", "-c", "cp {from} {to} && gdb-add-index -dwarf-5 {to}"],
    "dwz-multi": [
        "sh", "-c",
        "cp {from} {to} && cp {nbd} {to}.nbd && dwz -m {to}.common {to} {to}.nbd && rm {to}.nbd",
    ],
}  # fmt: skip


def build_id(program: Path) -> str:
    with ElfFile.open(str(program)) as elf:
        return elf.build_id


def made(name: str) -> Path:
    """Return the QEMU in another form; skip the test where the tool for it is missing."""
    directory = lab_root() / "variants" / build_id(QEMU)
    path = directory / name
    if path.exists():
        return path
    command = PACKED[name]
    tool = "gdb-add-index" if "gdb-add-index" in command[-1] else command[0]
    tool = "dwz" if "dwz" in command[-1] else tool
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    if name == "stripped":
        made("debug")
    directory.mkdir(parents=True, exist_ok=True)
    # Made under its own name, which dwz and gdb-add-index write into it, in a place of its own.
    scratch = directory / f"{name}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    places = {"from": str(QEMU), "to": str(scratch / name), "dir": str(directory)}
    places["nbd"] = str(QEMU.with_name("qemu-nbd"))
    words = [word.format(**places) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for file in sorted(scratch.iterdir(), reverse=True):
        file.rename(directory / file.name)
    scratch.rmdir()
    return path


class Sample:
    """Names and addresses of the plain QEMU that are asked for, and its answers."""

    def __init__(self) -> None:
        chance = random.Random(11)
        with ElfFile.open(str(QEMU)) as elf:
            index = UnitIndex(Dwarf(elf))
            self.variables = [n.decode() for n in index.names(VARIABLE)]
            self.functions = [n.decode() for n in index.names(FUNCTION)]
        self.keys = chance.sample(all_keys(QEMU), SAMPLED["types"])
        self.variables = chance.sample(self.variables, SAMPLED["variables"])
        self.functions = chance.sample(self.functions, SAMPLED["functions"])
        self.lines = chance.sample(code_addresses(QEMU), SAMPLED["lines"])
        self.truth = self.answers(layouts_of(QEMU))
        assert sum(a is not None for a in self.truth.values()) > 1500

    def answers(self, layouts: Layouts) -> dict[str, Any]:
        found: dict[str, Any] = {key: layouts.find_definition(key) for key in self.keys}
        for name in self.variables:
            variable = layouts.find_variable(name)
            found[f"variable {name}"] = variable and (variable.address, variable.type)
        for name in self.functions:
            function = layouts.find_function(name)
            found[f"function {name}"] = function and (function.address, function.size)
        for address in self.lines:
            found[hex(address)] = layouts.source_of(address)
        return found


@pytest.fixture(scope="module")
def sample() -> Sample:
    return Sample()


@pytest.fixture(scope="module")
def queues() -> list[Any]:
    found = queues_by(QEMU)
    assert sum(len(device["queues"]) for device in found) >= 2
    return found


def queues_by(executable: Path, **places: Any) -> list[Any]:
    """Return the devices and queues of the core, by an executable, without any cache."""
    with open_core(CORE, executable=executable, store=LayoutStore(), **places) as core:
        parts = {"devices", "device-fields", "queues", "queue-fields"}
        found: list[Any] = json.loads(encode(core.report(parts).devices))
        return found


def check(executable: Path, sample: Sample, queues: list[Any], name: str, **places: Any) -> None:
    """Hold all answers against those of the plain file."""
    answers = sample.answers(layouts_of(executable, **places))
    differing = {k: (v, answers[k]) for k, v in sample.truth.items() if answers[k] != v}
    assert not differing
    assert queues_by(executable, **places) == queues
    print(f"{name}: {len(answers)} facts and {len(queues)} devices equal those of the plain file")


@pytest.mark.parametrize("name", ["zlib", "zdebug", "zstd", "elfcompress"])
def test_compressed_sections(name: str, sample: Sample, queues: list[Any]) -> None:
    program = made(name)
    with ElfFile.open(str(program)) as elf:
        info = elf.section(".debug_info")
        assert info is not None
        assert info.packed
    check(program, sample, queues, name)


@pytest.mark.parametrize("name", ["gdb-index", "debug-names"])
def test_files_with_an_index(name: str, sample: Sample, queues: list[Any]) -> None:
    program = made(name)
    with ElfFile.open(str(program)) as elf:
        assert elf.section({"gdb-index": ".gdb_index", "debug-names": ".debug_names"}[name])
    check(program, sample, queues, name)


@pytest.mark.parametrize("name", ["dwz", "dwz-multi"])
def test_dwz(name: str, sample: Sample, queues: list[Any]) -> None:
    program = made(name)
    with ElfFile.open(str(program)) as elf:
        assert (elf.alternate_link() is not None) == (name == "dwz-multi")
        if name == "dwz-multi":
            # It names the place where it was made; the file lies beside.
            places = [str(program.parent)]
            assert find_alternate_file(elf, debug_dirs=places).path == f"{program}.common"
    check(program, sample, queues, name)


def placed_by_build_id(directory: Path) -> dict[str, Any]:
    found = build_id(QEMU)
    place = directory / ".build-id" / found[:2] / f"{found[2:]}.debug"
    place.parent.mkdir(parents=True)
    place.symlink_to(made("debug"))
    return {"debug_dirs": [str(directory)]}


def placed_by_name(directory: Path) -> dict[str, Any]:
    (directory / "debug").symlink_to(made("debug"))
    return {}


def placed_below(directory: Path) -> dict[str, Any]:
    (directory / ".debug").mkdir()
    return placed_by_name(directory / ".debug")


def placed_in_cache(directory: Path) -> dict[str, Any]:
    place = directory / build_id(QEMU) / "debuginfo"
    place.parent.mkdir()
    place.symlink_to(made("debug"))
    os.environ["DEBUGINFOD_CACHE_PATH"] = str(directory)
    return {}


def given(_directory: Path) -> dict[str, Any]:
    return {"debug_files": [str(made("debug"))]}


@pytest.mark.parametrize(
    "place", [placed_by_build_id, placed_by_name, placed_below, placed_in_cache, given]
)
def test_debug_information_of_its_own(
    place: Callable[[Path], dict[str, Any]],
    sample: Sample,
    queues: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "none"))
    program = tmp_path / "qemu-system-x86_64"
    program.symlink_to(made("stripped"))
    assert find_debug_file(build_id(QEMU), str(program)).path == ""
    places = place(tmp_path)
    if place is placed_by_build_id:
        check(program, sample, queues, "separate", **places)
    else:
        assert queues_by(program, **places) == queues


def test_a_core_with_its_files_beside_it(queues: list[Any], tmp_path: Path) -> None:
    (tmp_path / "core").symlink_to(CORE)
    (tmp_path / "qemu-system-x86_64").symlink_to(made("stripped"))
    (tmp_path / "debug").symlink_to(made("debug"))
    (tmp_path / "root").mkdir()
    # Nothing of this machine: what the core names is looked for in an empty root.
    with open_core(tmp_path / "core", sysroot=str(tmp_path / "root"), store=LayoutStore()) as core:
        found = core.virtio_devices()
    assert [d.qom_path for d in found] == [d["qom_path"] for d in queues]


@pytest.mark.parametrize("name", ["zstd", "dwz", "stripped"])
def test_another_build_is_refused(name: str, tmp_path: Path) -> None:
    found = bytes.fromhex(build_id(QEMU))
    other = bytes(reversed(found))
    program = tmp_path / "other"
    program.write_bytes(made(name).read_bytes().replace(found, other))
    with pytest.raises(ExecutableMismatchError, match=other.hex()):
        queues_by(program)


def test_names_of_functions_in_a_packed_table(tmp_path: Path) -> None:
    with ElfFile.open(str(QEMU)) as elf:
        whole = SymbolTable.of(elf)
        assert whole is not None
        names = [n for n in sample_of_statics(QEMU) if len(whole.find_all(n)) == 1]
        truth = {n: whole.find(n) for n in names}
    assert len(names) > 300
    program = with_packed_table(tmp_path, names)
    layouts = layouts_of(program)
    assert {n: layouts.find_symbol(n) for n in names} == truth
    for name in names[:200]:
        symbol = truth[name]
        assert symbol is not None
        assert layouts.source_of(symbol.address + symbol.size // 2)[0].function == name
    # What is not in it need not be nowhere.
    assert layouts.find_symbol("no_such_function") is None
    assert layouts.find_variable("no_such_variable") is None


def sample_of_statics(program: Path) -> list[str]:
    text = subprocess.run(["nm", str(program)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    names = sorted(
        {row[2] for row in rows if len(row) == 3 and row[1] == "t" and "." not in row[2]}
    )
    return random.Random(3).sample(names, 2000)


def with_packed_table(directory: Path, names: list[str]) -> Path:
    """Make what Fedora makes of a program: stripped, a table of functions packed into it."""
    keep, mini, program = (directory / n for n in ("keep", "mini", "program"))
    keep.write_text("\n".join(names))
    for command in (
        ["objcopy", "-S", f"--keep-symbols={keep}", str(made("debug")), str(mini)],
        ["objcopy", "--strip-all", str(QEMU), str(program)],
    ):
        subprocess.run(command, check=True)
    packed = directory / "mini.xz"
    packed.write_bytes(lzma.compress(mini.read_bytes()))
    words = ["objcopy", f"--add-section=.gnu_debugdata={packed}", str(program)]
    subprocess.run(words, check=True)
    return program
