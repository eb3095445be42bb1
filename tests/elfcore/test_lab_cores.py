"""Every core of the lab beside readelf, eu-readelf and gdb: segments, threads, files, build-ids."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.arm64 import debugger
from tests.lab.cases import CoreCase, iter_cores
from vringcore.elfcore.core import open_elf_core
from vringcore.elfcore.headers import PT_LOAD, read_program_headers
from vringcore.elfcore.registers import NAMES

pytestmark = pytest.mark.lab

ASK_GDB = """
import gdb, json
result = []
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frame = gdb.newest_frame()
    values = {name: int(frame.read_register(name)) & (1 << 64) - 1 for name in %r}
    result.append([thread.ptid[1], values])
print("ANSWER " + json.dumps(result))
"""


def run(*command: str | Path) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, env=environment).stdout


@pytest.fixture(params=list(iter_cores()), ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> CoreCase:
    return request.param


def test_segments_are_readelfs(case: CoreCase) -> None:
    rows = [
        [int(number, 16) for number in match.groups()]
        for match in re.finditer(
            r"^ +LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+) (0x\w+)",
            run("readelf", "-lW", case.path),
            re.MULTILINE,
        )
    ]
    with open_elf_core(str(case.path)) as core:
        assert core.kind == ("unknown" if case.kind == "proc" else case.kind)
        assert (core.truncated, core.problems) == (False, [])
        headers = read_program_headers(core.source, core.header)
        ours = [[p.offset, p.vaddr, p.filesz, p.memsz] for p in headers if p.type == PT_LOAD]
        assert len(rows) > 20
        assert ours == rows
        ranges = [[r.address, r.readable, r.size] for r in core.memory.ranges()]
        assert ranges == sorted([row[1:] for row in rows])


def test_threads_are_gdbs(case: CoreCase, tmp_path: Path) -> None:
    script = tmp_path / "ask.py"
    # gdb calls arm64's last register by another name, and extends its sign.
    names = NAMES["aarch64"][:-1] if case.case.for_arm64 else NAMES["x86-64"]
    script.write_text(ASK_GDB % (names,))
    program = case.case.executable
    output = run(*debugger(program), "-batch", "-nx", "-x", script, program, case.path)
    (line,) = [line for line in output.splitlines() if line.startswith("ANSWER ")]
    with open_elf_core(str(case.path)) as core:
        ours = {
            thread.lwp: {name: thread.registers[name] for name in names} for thread in core.threads
        }
        assert ours == dict(json.loads(line.removeprefix("ANSWER ")))


def test_mapped_files_are_elfutils_and_build_ids_those_of_the_files(case: CoreCase) -> None:
    notes = run("eu-readelf", "-n", case.path)
    rows = re.findall(r"^ +([0-9a-f]+)-([0-9a-f]+) ([0-9a-f]+) \d+ +\S", notes, re.MULTILINE)
    with open_elf_core(str(case.path)) as core:
        ours = [(m.start, m.end, m.file_offset) for module in core.modules for m in module.mappings]
        assert sorted(ours) == sorted(tuple(int(n, 16) for n in row) for row in rows)
        assert len(rows) > 20
        (entry,) = re.findall(r"^ +ENTRY: (0x\w+)", notes, re.MULTILINE)
        assert core.auxv[9] == int(entry, 16)
        libraries = [module for module in core.modules if module.header is not None]
        assert len(libraries) > 5
        for module in libraries:
            told = re.search(r"Build ID: (\w+)", run("readelf", "-n", module.path))
            assert told is not None
            assert module.build_id == told[1]
            assert module.load_bias == module.start
        assert core.executable is not None
        assert core.executable.path == str(case.case.executable)
