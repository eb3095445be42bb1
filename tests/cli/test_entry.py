"""The process of the command line: what it imports before it does anything."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import vringcore


def test_what_msgspec_can_do_without_is_not_imported(tmp_path: Path) -> None:
    """Other packages bring ``typing_extensions`` into an environment; a run must not pay for it."""
    (tmp_path / "typing_extensions.py").write_text("raise SystemExit('imported')\n")
    said = vringcore("devices", "/nowhere/core", PYTHONPATH=str(tmp_path))
    assert (said.returncode, said.stdout) == (3, "")
    assert "/nowhere/core" in said.stderr
