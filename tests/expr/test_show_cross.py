"""Variables of big-endian and arm64 programs, as gdb-multiarch prints them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.expr.printing import HERE, OddProgram, differences, names_in
from tests.synth.cross import MACHINES, Machine, compile_c, crash
from vringcore.elfcore.core import open_elf_core
from vringcore.layout.store import LayoutStore
from vringcore.options import Options
from vringcore.qemu.files import ProgramFiles
from vringcore.qemu.libraries import ProcessSymbols
from vringcore.qemu.symbols import ModuleSymbols
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMATS = ("", "/x", "/d", "/u", "/c", "/o", "/t", "/z", "/a")

_NAN = {"long_nan", "not_a_number"}
"""How gdb casts what is no number depends on the machine that gdb itself runs on."""

_STUB = {"library_function"}
"""gdb names the linker's stub, by a symbol that it makes up itself."""

DIFFERENT = {
    "aarch64": _NAN | _STUB,
    "s390x": _NAN | _STUB,
    # A function pointer leads to a descriptor (ELFv1), which gdb follows and we name.
    "ppc64": _NAN
    | _STUB
    | {"compare_pointer", "device", "handler", "handlers", "holes", "old_pointer", "pointers"}
    | {"reporter", "strict_pointer", "text_function"},
}
"""Variables that are not printed as gdb-multiarch prints them, and why."""


class CrossProgram(OddProgram):
    """The program of odd values on another machine, and the core that it ended in."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        source = (HERE / "odd_values.c").read_text()
        self.machine = machine
        self.executable = compile_c(machine, source, directory, "-O0", "-lm")
        self.path = crash(machine, self.executable)
        self.core = open_elf_core(str(self.path))
        options = Options(executable=str(self.executable), sysroot=str(machine.root))
        self.files = ProgramFiles(self.core, options)
        layouts = self.files.layouts(LayoutStore())
        names = ModuleSymbols()
        names.add(*self.files.extent, self.files.bias, layouts)
        space = self.core.with_files(self.files.mapped, self.files.executable)
        self.views = Views(space, layouts, self.files.bias, names)
        self.symbols = ProcessSymbols(self, sysroot=str(machine.root))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=MACHINES, ids=lambda machine: machine.name)
def odd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrossProgram]:
    if request.param.missing:
        pytest.skip(request.param.missing)
    made = CrossProgram(request.param, tmp_path_factory.mktemp("cross"))
    yield made
    made.close()


def gdb_lines(odd: CrossProgram, commands: list[str], scratch: Path) -> dict[str, str]:
    """Return what gdb prints for each command, without ``$1 = ``."""
    asked, answer = scratch / "commands.json", scratch / "lines.json"
    asked.write_text(json.dumps(commands))
    subprocess.run(
        [*odd.machine.debugger, "-iex", "set auto-load no",
         "-ex", f"python request = {str(asked)!r}; answer = {str(answer)!r}",
         "-x", str(HERE / "gdb_lines.py"), str(odd.executable), str(odd.path)],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    lines: dict[str, str] = json.loads(answer.read_text())
    return lines


def test_every_variable_in_every_format(odd: CrossProgram, tmp_path: Path) -> None:
    names = names_in(odd.executable)["variable"]
    assert len(names) > 150
    truth = gdb_lines(odd, [f"p{f} {name}" for name in names for f in FORMATS], tmp_path)
    found = differences(odd, truth)
    others = [row for row in found if row[0].split()[1] not in DIFFERENT[odd.machine.name]]
    assert others == []
    assert len(truth) - len(found) > 0.98 * len(truth)
