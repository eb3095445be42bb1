"""``python -m vringcore``."""

from __future__ import annotations

from vringcore.cli.main import entry

entry()
