"""Makes a dump of a case of the lab: small cores, and the truth about them, packed.

gdb reads the whole core; what it prints and where it sees the threads is kept beside the rest.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import zstandard

from tests.expr.printing import gdb_lines
from tests.expr.structures import (
    COMMANDS_OF_FORK,
    QUEUES_OF_FORK,
    STRUCTURES,
    of_devices,
    pointers,
)
from tests.lab.cases import DUMPS, PACKED, Case, CoreCase
from tests.lab.gdb_run import FRAMES, write_truth
from tests.lab.scenarios.stuck import CANARIES
from vringcore.layout.store import LayoutStore
from vringcore.slim.slim import slim_core

TRUTH = ("qmp-before.json", "qmp-after.json", "server.json", "proc.json")

LEFT_OUT = ("executable", "environment", "canaries", "gcore_seconds", "rawcore_seconds")
"""Of the manifest: what is planted to be looked for, and what is true of one machine only."""

PRINTED = ("stuck-migration/gcore", "nine-devices/gcore", "fork-stuck/gcore")
"""Scenarios and kinds of the cores of which expressions are printed."""

DEVICES_PRINTED = 2
LEVEL = 19
HIDDEN = "<redacted>"


def make(case: Case, root: Path = DUMPS) -> Path:
    """Makes the dump of a case, or makes it anew; returns its directory."""
    target = root / case.version / case.scenario
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "dump"
        made.mkdir()
        kept = {name: value for name, value in case.manifest.items() if name not in LEFT_OUT}
        (made / "manifest.json").write_text(_clean(json.dumps(kept, indent=1)) + "\n")
        for name in TRUTH:
            _pack(made / name, case.read(name))
        for core in case.cores():
            _make_core(core, made, Path(scratch))
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target)
    return target


def commands(core: CoreCase) -> list[str]:
    """Return what gdb shall print of a core: values and types.

    Not ``info symbol``: the names of the program's sections are in no small core.
    """
    if not core.name.endswith(PRINTED):
        return []
    devices = pointers([each["address"] for each in core.gdb["devices"][:DEVICES_PRINTED]])
    values = [*STRUCTURES, *of_devices(devices)]
    if core.case.version.endswith("-fork"):
        values += QUEUES_OF_FORK
    found = [f"{word} {text}" for word in ("p", "p/x", "whatis", "ptype") for text in values]
    found += COMMANDS_OF_FORK if core.case.version.endswith("-fork") else ()
    return list(dict.fromkeys(found))


def _make_core(core: CoreCase, made: Path, scratch: Path) -> None:
    printed = _printed(core, scratch)
    slim_core(
        str(core.path),
        str(made / (core.path.name + PACKED)),
        options=core.options,
        store=LayoutStore(),
        wanted=_values(list(printed)),
    )
    (made / (core.path.name + PACKED)).chmod(0o644)
    _pack(made / core.beside("gdb"), core.gdb)
    _pack(made / core.beside("printed"), printed or None)
    frames = scratch / "frames.json"
    write_truth(core.case.executable, core.path, frames, FRAMES)
    threads = json.loads(frames.read_text())
    # gdb's own order differs from run to run.
    _pack(made / core.beside("frames"), sorted(threads, key=lambda thread: int(thread["lwp"])))
    frames.unlink()


def _printed(core: CoreCase, scratch: Path) -> dict[str, str]:
    """Return what gdb answers; no QEMU has all of these names."""
    asked = commands(core)
    lines = gdb_lines(core.case.executable, core.path, asked, scratch) if asked else {}
    return {command: line for command, line in lines.items() if not line.startswith("error:")}


def _values(asked: list[str]) -> list[str]:
    """Return the expressions that read memory of their own."""
    texts = [text for word, _, text in (command.partition(" ") for command in asked)
             if word.startswith("p") and not word.startswith("ptype")]  # fmt: skip
    return [text for text in dict.fromkeys(texts) if not text.startswith("sizeof")]


def _pack(path: Path, content: Any) -> None:
    """Write JSON, packed; nothing if there is none."""
    if content is None:
        return
    text = _clean(json.dumps(content, separators=(",", ":")))
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(text.encode())
    path.with_name(path.name + PACKED).write_bytes(packed)


def _clean(text: str) -> str:
    """Return a text without what no dump may show."""
    for canary in CANARIES.values():
        text = text.replace(canary, HIDDEN)
    return text
