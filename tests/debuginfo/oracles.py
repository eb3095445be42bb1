"""What gdb and pyelftools say of a program's types."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

GDB = shutil.which("gdb")
_SCRIPT = Path(__file__).with_name("gdb_dump.py")


def ask_gdb(
    program: Path,
    scratch: Path,
    *,
    types: list[str] | None = None,
    variables: list[str] | None = None,
    symbols: list[int] | None = None,
) -> dict[str, Any]:
    """Return gdb's answers; a string in place of a shape or address is its error message."""
    assert GDB is not None
    request, answer = scratch / "gdb-request.json", scratch / "gdb-answer.json"
    asked = {"types": types or [], "variables": variables or [], "symbols": symbols or []}
    request.write_text(json.dumps(asked))
    places = f"python request = {str(request)!r}; answer = {str(answer)!r}"
    done = subprocess.run(
        [GDB, "-batch", "-nx", "-iex", "set auto-load no", "-ex", places, "-x", str(_SCRIPT),
         str(program)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.exists(), done.stderr
    result: dict[str, Any] = json.loads(answer.read_text())
    return result
