"""A program of odd values with its core, a lab core likewise, and gdb's lines beside ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.expr.program import run
from vringcore.debuginfo import toplevel as top
from vringcore.debuginfo.dwarf import Dwarf
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.index import UnitIndex
from vringcore.elfcore.core import open_elf_core
from vringcore.errors import VringcoreError
from vringcore.expr.answer import address_of, answer
from vringcore.layout.store import LayoutStore
from vringcore.options import Options
from vringcore.qemu.files import ProgramFiles
from vringcore.qemu.libraries import ProcessSymbols
from vringcore.qemu.symbols import ModuleSymbols
from vringcore.view.views import Views

if TYPE_CHECKING:
    from vringcore.qemu.process import Process

HERE = Path(__file__).parent
_QUESTIONS = {"p": "value", "ptype": "ptype", "whatis": "whatis", "info": "symbol"}


class OddProgram:
    """odd_values.c, run until it stops itself, and the core that gdb took of it then."""

    def __init__(self, directory: Path) -> None:
        self.executable, self.path = directory / "odd", directory / "odd.core"
        run(["gcc", "-g", "-O0", "-w", "-o", str(self.executable), str(HERE / "odd_values.c"),
             "-lm"], cwd=directory)  # fmt: skip
        run(["gdb", "-batch", "-nx", "-ex", "run", "-ex", f"generate-core-file {self.path}",
             str(self.executable)], cwd=directory)  # fmt: skip
        self.core = open_elf_core(str(self.path))
        self.files = ProgramFiles(self.core, Options(executable=str(self.executable)))
        layouts = self.files.layouts(LayoutStore())
        names = ModuleSymbols()
        names.add(*self.files.extent, self.files.bias, layouts)
        space = self.core.with_files(self.files.mapped, self.files.executable)
        self.views = Views(space, layouts, self.files.bias, names)
        self.symbols = ProcessSymbols(self)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the files."""
        self.symbols.close()
        self.files.close()
        self.core.close()


def names_in(program: Path) -> dict[str, list[str]]:
    """Return the names that a program defines once: its variables, and types by their kind."""
    kinds = {"struct": top.STRUCT, "union": top.UNION, "enum": top.ENUM, "typedef": top.TYPEDEF}
    with ElfFile.open(str(program)) as elf:
        index = UnitIndex(Dwarf(elf))
        found = {
            word: sorted(n.decode() for n in index.type_names(kind)
                         if len(index.type_places(kind, n)) == 1)
            for word, kind in kinds.items()
        }  # fmt: skip
        variables = index.names(top.VARIABLE)
        found["variable"] = sorted(
            n.decode() for n in variables if len(index.places(top.VARIABLE, n)) == 1
        )
    return found


def gdb_lines(program: Path, core: Path, commands: list[str], scratch: Path) -> dict[str, str]:
    """Return what gdb prints for each command, without ``$1 = ``; errors start with ``error:``."""
    request, reply = scratch / "commands.json", scratch / "lines.json"
    request.write_text(json.dumps(commands))
    places = f"python request = {str(request)!r}; answer = {str(reply)!r}"
    # Pretty printers of installed libraries are no part of gdb's own form.
    subprocess.run(
        ["gdb", "-batch", "-nx", "-iex", "set auto-load no", "-ex", places,
         "-x", str(HERE / "gdb_lines.py"), str(program), str(core)],
        capture_output=True, check=True, timeout=900,
    )  # fmt: skip
    lines: dict[str, str] = json.loads(reply.read_text())
    return lines


def our_line(process: OddProgram | Process, command: str) -> str:
    """Return what we print for a command of gdb; errors start with ``error:``."""
    word, _, rest = command.partition(" ")
    word, _, letter = word.partition("/")
    question = "offsets" if command.startswith("ptype/o") else _QUESTIONS[word]
    try:
        if question == "symbol":
            expression = rest.removeprefix("symbol ")
            place = process.symbols.place(address_of(process.views, expression))
            return f"No symbol matches {expression}." if place is None else str(place)
        letter = letter if word == "p" else ""
        return answer(
            process.views, rest, question=question, format=letter, symbols=process.symbols
        ).text
    except VringcoreError as error:
        return f"error: {error}"


def differences(process: OddProgram | Process, truth: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return command, gdb's line and ours wherever they differ; errors count as the same."""
    found = []
    for command, line in truth.items():
        ours = our_line(process, command)
        both_refuse = line.startswith("error:") and ours.startswith("error:")
        if ours != line and not both_refuse:
            found.append((command, line, ours))
    return found
